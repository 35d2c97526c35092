"""What each key has used of its plan at this moment: asked, and not charged. For the REST API, and for pages."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Decision, Usage
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.core.table import PlanTable
from awx_ratelimit.keys.values import Account, ApiKey

Peek = Callable[[str, Plan], Decision]


class KeyUsage(NamedTuple):
    """A key, its plan, and how each limit stands that is enforced. Keys of one family have one budget."""

    key: ApiKey
    plan: Plan
    limits: tuple[Usage, ...]


def live_usage(account: Account, keys: Iterable[ApiKey], plans: PlanTable, peek: Peek) -> list[KeyUsage]:
    """The usage of `keys` of `account`, in their order: `peek` is a limiter's.

    Raises InvalidLimit for an account whose plan is not in the table, and BackendUnavailable.
    """
    seen: dict[str, KeyUsage] = {}
    for key in keys:
        if key.family_id not in seen:
            caller = Caller(key.family_id, account.plan, account.id, account.overrides)
            plan = plans.resolve(caller)
            usages = tuple(usage for usage in peek(caller.subject, plan).usages if not usage.shadow)
            seen[key.family_id] = KeyUsage(key, plan, usages)
    return [seen[key.family_id]._replace(key=key) for key in keys]
