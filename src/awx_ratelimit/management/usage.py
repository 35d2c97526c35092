"""What each key has used of its plan at this moment: asked, and not charged. For the REST API, and for pages."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Decision, Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.keys.models import Account, ApiKey

PeekMany = Callable[[Sequence[tuple[str, Plan]]], Sequence[Decision]]


class KeyUsage(NamedTuple):
    """A key, its plan, and how each limit stands that is enforced. Keys of one family have one budget."""

    key: ApiKey
    plan: Plan
    limits: tuple[Usage, ...]


def live_usage(account: Account, keys: Sequence[ApiKey], plans: PlanTable, peek_many: PeekMany) -> list[KeyUsage]:
    """Return the usage of `keys` of `account`, in order. `peek_many` is `BlockingLimiter.peek_many`.

    Raises InvalidLimit for an account whose plan is not in the table, and BackendUnavailable.
    """
    families = dict.fromkeys(key.family_id for key in keys)
    asks = [(family, _plan(account, family, plans)) for family in families]
    seen = dict(zip(families, peek_many(asks), strict=True))
    return [KeyUsage(key, seen[key.family_id].plan, _enforced(seen[key.family_id])) for key in keys]


def _plan(account: Account, subject: str, plans: PlanTable) -> Plan:
    return plans.resolve(Caller(subject, account.plan, account.id, account.overrides))


def _enforced(decision: Decision) -> tuple[Usage, ...]:
    return tuple(usage for usage in decision.usages if not usage.shadow)
