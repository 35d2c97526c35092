"""`live_usage`: how much of its plan each key has used. It only peeks, so it charges nothing."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Decision, Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.keys.models import Account, ApiKey

PeekMany = Callable[[Sequence[tuple[str, Plan]]], Sequence[Decision]]


class KeyUsage(NamedTuple):
    """A key, its plan, and the usage of each enforced limit. A key shares its usage with its predecessors."""

    key: ApiKey
    plan: Plan
    limits: tuple[Usage, ...]


def live_usage(account: Account, keys: Sequence[ApiKey], plans: PlanTable, peek_many: PeekMany) -> list[KeyUsage]:
    """Return the usage of `keys` of `account`, in order. `peek_many` is a method of `BlockingLimiter`.

    Raises InvalidLimit if the account's plan is not in the table, and BackendUnavailable.
    """
    families = dict.fromkeys(key.family_id for key in keys)
    subjects = [
        (family, plans.resolve(Caller(family, account.plan, account.id, account.overrides))) for family in families
    ]
    decisions = dict(zip(families, peek_many(subjects), strict=True))
    return [KeyUsage(key, decisions[key.family_id].plan, _enforced(decisions[key.family_id])) for key in keys]


def _enforced(decision: Decision) -> tuple[Usage, ...]:
    return tuple(usage for usage in decision.usages if not usage.shadow)
