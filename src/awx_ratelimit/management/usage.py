"""`live_usage`: how much of their limits an account and its keys have used. It only peeks, so it charges nothing."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from awx_ratelimit.core.budget import ACCOUNT_SCOPE, Budget
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.management.limits import PeekMany

#: What slots count, as in the field RateLimit-Policy.
SLOTS: Final = "concurrent-requests"


class LimitUsage(NamedTuple):
    """The usage of one limit, and the rate; None for the slots.

    `resets_at_ms` is the end of the current period of a calendar rate. None: the limit refills all the time.
    """

    usage: Usage
    rate: Rate | None
    resets_at_ms: int | None

    @property
    def measure(self) -> str:
        """What the limit counts: ``requests``, ``tokens``, or ``concurrent-requests`` for slots."""
        return SLOTS if self.rate is None else self.rate.measure


class KeyUsage(NamedTuple):
    """A key, its plan, and the usage of each enforced limit. A key shares its usage with its predecessors."""

    key: ApiKey
    plan: Plan
    limits: tuple[LimitUsage, ...]


class AccountUsage(NamedTuple):
    """The usage of what all keys of an account share, None if its plan has no such limits, and of each key."""

    limits: tuple[LimitUsage, ...] | None
    keys: list[KeyUsage]


def live_usage(account: Account, keys: Sequence[ApiKey], plans: PlanTable, peek_many: PeekMany) -> AccountUsage:
    """Return the usage of `account` and of its `keys`, in order. `peek_many` is a method of `BlockingLimiter`.

    Raises InvalidLimit if the account's plan is not in the table, and BackendUnavailable.
    """
    families = dict.fromkeys(key.family_id for key in keys)
    budgets = [Budget(family, _plan(family, account, plans)) for family in families]
    shared = account_budget(account, plans)
    # One batch for all: the bars of the account and of its keys are of one moment.
    decisions = peek_many([*budgets, shared] if shared else budgets)
    by_family = dict(zip(families, decisions, strict=False))
    key_usages = [_key_usage(key, by_family[key.family_id]) for key in keys]
    return AccountUsage(_limit_usages(decisions[-1]) if shared else None, key_usages)


def account_budget(account: Account, plans: PlanTable) -> Budget | None:
    """Return the budget that all keys of `account` share; None if its plan has none. Raises InvalidLimit."""
    plan = _plan(account.id, account, plans).account
    return None if plan is None else Budget(account.id, plan, ACCOUNT_SCOPE)


def _plan(subject: str, account: Account, plans: PlanTable) -> Plan:
    return plans.resolve(Caller(subject, account.plan, account.id, account.current_overrides))


def _key_usage(key: ApiKey, decision: Decision) -> KeyUsage:
    return KeyUsage(key, decision.plan, _limit_usages(decision))


def _limit_usages(decision: Decision) -> tuple[LimitUsage, ...]:
    rates, at_ms = decision.rates, decision.decided_at_ms
    return tuple(_limit_usage(usage, rates.get(usage.limit), at_ms) for usage in decision.usages if not usage.shadow)


def _limit_usage(usage: Usage, rate: Rate | None, at_ms: int) -> LimitUsage:
    return LimitUsage(usage, rate, rate.periods.bounds(at_ms)[1] if rate is not None and rate.calendar else None)
