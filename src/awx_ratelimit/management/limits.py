"""What the REST API and the console do with a limiter: they issue keys within a rate, and look at budgets.

`BlockingLimiter` is a limiter for blocking code; it calls an AsyncLimiter on its own event loop. `KeyIssuer` creates
and rotates keys.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast

from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.claim import check_plan
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys.models import CreatedKey
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management.auth.tokens import Owner
from awx_ratelimit.runtime.event_loops import call_in_event_loop

#: How the subjects of the APIs' own limits begin: those of operators' calls, and of customers' calls and new keys.
OPERATOR_CALLS: Final = "operator-calls:"
CUSTOMER_CALLS: Final = "api-key-calls:"
_CREATIONS: Final = "api-keys:"
OWN_SUBJECTS: Final = (OPERATOR_CALLS, CUSTOMER_CALLS, _CREATIONS)
PeekMany = Callable[[Sequence[Budget]], list[Decision]]
#: Peeks per call into the event loop. A backend batches them, and other requests wait for no more than these.
_PEEK_BATCH = 50


class BlockingLimiter:
    """`acquire`, `peek_many` and `reset` of a limiter.

    An AsyncLimiter works only in threads that an adapter has started.
    """

    def __init__(self, limiter: Limiter | AsyncLimiter) -> None:
        if not isinstance(limiter, Limiter | AsyncLimiter):
            raise TypeError(f"limiter: expected the gate's Limiter or AsyncLimiter, got {type_name(limiter)}")
        self.needs_loop = isinstance(limiter, AsyncLimiter)
        self.acquire: Callable[[str, Plan], Decision]
        self.peek_many: PeekMany
        #: The scope may be None, for all scopes.
        self.reset: Callable[[str, str | None], bool]
        if isinstance(limiter, AsyncLimiter):
            self.acquire = partial(call_in_event_loop, limiter.acquire)
            self.peek_many = partial(_peek_many_in_event_loop, limiter)
            self.reset = lambda subject, scope: call_in_event_loop(partial(limiter.reset, scope=scope), subject)
        else:
            self.acquire = limiter.acquire
            self.peek_many = partial(_peek_many, limiter)
            self.reset = lambda subject, scope: limiter.reset(subject, scope=scope)


def _peek_many(limiter: Limiter, budgets: Sequence[Budget]) -> list[Decision]:
    return [limiter.peek(budget.subject, budget.plan, scope=budget.scope) for budget in budgets]


def _peek_many_in_event_loop(limiter: AsyncLimiter, budgets: Sequence[Budget]) -> list[Decision]:
    import asyncio  # here: apps without an event loop do not need it

    async def peek_batch(batch: Sequence[Budget]) -> list[Decision]:
        peeks = (limiter.peek(budget.subject, budget.plan, scope=budget.scope) for budget in batch)
        return await asyncio.gather(*peeks)

    batches = (budgets[begin : begin + _PEEK_BATCH] for begin in range(0, len(budgets), _PEEK_BATCH))
    return [decision for batch in batches for decision in call_in_event_loop(peek_batch, batch)]


class IssuedKey(NamedTuple):
    """The decision of the rate limit, and the key if the decision allows it."""

    decision: Decision
    created: CreatedKey | None


def checked_service(keys: Any) -> KeyService:
    """Return `keys` if it is a KeyService; otherwise raise TypeError."""
    if isinstance(keys, type) or not hasattr(keys, "rotate"):
        raise TypeError(
            f"keys: expected a KeyService, got {type_name(keys)}; write KeyService(KeyStore.open('keys.db'))"
        )
    return cast(KeyService, keys)


class KeyIssuer:
    """Creates and rotates keys, within the plan `creations` for each account.

    The first key of an unknown account also creates the account, on `new_account_plan`. Errors of KeyService and
    BackendUnavailable reach the caller. Raises InvalidLimit if `creations` has concurrent slots, and if `plans` has no
    plan `new_account_plan`.
    """

    def __init__(
        self,
        keys: KeyService,
        limiter: BlockingLimiter,
        plans: PlanTable,
        creations: Plan,
        new_account_plan: str | None,
    ) -> None:
        self._keys = keys
        self._limiter = limiter
        self._creations = rates_only("creations", creations)
        self._new_account_plan = _checked_name(new_account_plan, plans)

    def create(self, owner: Owner, **fields: Any) -> IssuedKey:
        """Create a key. `fields` are arguments of `KeyService.create`."""
        account_id, actor = owner

        def create() -> CreatedKey:
            self._keys.accounts.ensure(account_id, plan=self._new_account_plan, actor=actor)
            return self._keys.create(account_id, actor=actor, **fields)

        return self._issue(account_id, create)

    def rotate(self, owner: Owner, key_id: str, **fields: Any) -> IssuedKey:
        """Create the successor of a key. `fields` are arguments of `KeyService.rotate`."""
        account_id, actor = owner
        return self._issue(account_id, lambda: self._keys.rotate(account_id, key_id, actor=actor, **fields))

    def _issue(self, account_id: str, create: Callable[[], CreatedKey]) -> IssuedKey:
        decision = self._limiter.acquire(f"{_CREATIONS}{account_id}", self._creations)
        return IssuedKey(decision, create() if decision.allowed else None)


def _checked_name(plan: str | None, plans: PlanTable) -> str | None:
    names = [each.name for each in plans.plans]
    if plan is None or plan in names:
        return plan
    raise InvalidLimit(f"new_account_plan: expected one of the plans {', '.join(names)}, got {plan!r}")


def rates_only(field: str, plan: Plan) -> Plan:
    """Return `plan` if it has only rates. Raises InvalidLimit if it has concurrent slots."""
    check_plan(plan)
    # Nobody releases these slots, so after as many calls as there are slots every call would be refused.
    if plan.concurrency is not None:
        raise InvalidLimit(f"{field}: expected a plan with rates only, but {plan.name!r} has concurrent slots")
    return plan
