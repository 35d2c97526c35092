"""`AsyncLimiter`: decides claims with any backend."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Never, Unpack

from awx_ratelimit.backends.base import AsyncBackend, Backend, checks_claims
from awx_ratelimit.backends.validation import checked_async_backend
from awx_ratelimit.core.budget import EVERYONE, Budget, checked_scope, scopes_to_reset
from awx_ratelimit.core.claim import check_claim, check_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.function_limit import FunctionLimit, function_options
from awx_ratelimit.core.joint_claim import Cost, JointClaim, acquired_jointly, checked_cost, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.limited_functions import Function, async_limited
from awx_ratelimit.limiter_upkeep import AsyncUpkeep
from awx_ratelimit.observability.listeners import Listener, ShadowCounts, checked_listeners, reporter
from awx_ratelimit.observability.observers import Observers
from awx_ratelimit.pending_decision import AsyncHold, check_is_decision, check_keywords, must_be_awaited, with_keywords
from awx_ratelimit.waiting.acquiring import Terms, async_acquire_in_line, claim_of, joint_claim
from awx_ratelimit.waiting.lines import Queue, lines_of
from awx_ratelimit.waiting.sleeps import AlarmClock

#: The usual cost, recognized by identity. See "Identity checks" in docs/hot-path.md.
_ONE = 1
_ZERO = 0
_NOTHING: Any = None


class AsyncLimiter(AsyncUpkeep):
    """Decides claims against plans, from the tasks of an event loop.

    A refusal is a value, not an exception. `listeners` are called with every Decision of `acquire`; the exceptions they
    raise are logged and go no further.

    Takes an async backend, or a synchronous one that never waits longer than 50 ms (memory, host). Any other backend
    raises TypeError. So does the result of `acquire` or `peek` without ``await`` when it is used as a condition.
    """

    def __init__(self, backend: AsyncBackend | Backend, *, listeners: Iterable[Listener] = ()) -> None:
        self.backend = checked_async_backend(backend)
        self.listeners = checked_listeners(listeners)
        self.observers = Observers(self.listeners)
        self._checks = not checks_claims(self.backend)
        #: Counts the refusals of shadow limits, for `health`.
        self.shadow = ShadowCounts()
        self.is_closed = False
        #: By which clock claims wait, in a test. None: that of the backend if it is a ManualClock, else real time.
        self.clock: AlarmClock | None = None
        self.lines = lines_of(backend)
        #: Releases look at it first: it is empty while nobody waits.
        self._waited_for = self.lines.by_bucket
        self.report = reporter(self.listeners, self.give_back)
        self._released = self.observers.released
        self.observers.report("watch", self)

    @must_be_awaited
    @with_keywords
    async def acquire(  # noqa: C901  # see docs/hot-path.md
        self,
        subject: str,
        plan: Plan,
        cost: Cost = 1,
        _misplaced: Never = _NOTHING,
        scope: str | None = None,
        also: Iterable[Budget] = (),
        settle: bool = False,
        wait_ms: int = 0,
    ) -> Decision:
        """Charge `cost` tokens of every rate of `plan` and take a slot, in one atomic step: all of it or nothing.

        Buckets belong to a subject, a scope and the name of a limit. Two plans that have a limit of the same name share
        that bucket, unless another `scope` separates them. The budgets in `also` are decided together with this one:
        all of them are charged, or none.

        `cost` is a number of requests, or a mapping such as ``{"requests": 1, "tokens": 800}``. A rate whose measure is
        not in it is not charged and does not refuse. With ``settle=True`` the claim may turn out to cost less: then
        `settle` and `refund` give back exactly what would be there if it had cost less from the start.

        A claim without room waits up to `wait_ms` for it: exactly as long as the refusal says, then it claims again. It
        is refused as soon as the next wait would end later. In a process, claims that wait for the same limit are
        admitted in the order in which they came; see the page ``queues``.

        Call `release` when the work is done; it frees the slots. Raises ValueError for a wrong cost or `wait_ms`, and
        for two limits with one name; ImpossibleClaim for a cost above a burst; TypeError for a subject that is not a
        non-empty string or a plan that is not a Plan; InvalidLimit for a wrong scope; and BackendUnavailable if the
        backend cannot decide.
        """
        # Parameters that are keyword-only in Python are slower: see "Keyword arguments" in docs/hot-path.md.
        if also or scope is not None or settle or wait_ms is not _ZERO or _misplaced is not None:
            if _misplaced is not None:
                check_keywords(_misplaced)
            if wait_ms is not _ZERO:
                claim_made = claim_of(self.backend, subject, plan, cost, scope, also, settle)
                return await async_acquire_in_line(self, claim_made, wait_ms)
            return await self.claim_jointly(acquired_jointly(subject, plan, cost, scope, also, settle))
        if self._checks and (subject.__class__ is not str or not subject or plan.__class__ is not Plan):
            check_claim(subject, plan)
        if cost is not _ONE:
            if isinstance(cost, Mapping):
                return await self.claim_jointly(acquired_jointly(subject, plan, cost, scope, also, settle))
            cost = plan.check(cost)
        try:
            decision = await self.backend.acquire(subject, plan, cost)
        except BackendUnavailable:
            self.observers.report("unavailable", plan)
            raise
        try:
            if plan.shadowed and decision.exceeded:
                self.shadow.count(decision)
            if self.report is not None:
                self.report(decision)
        except BaseException:
            # A signal handler has raised, so nobody gets the decision.
            self.give_back(decision)
            raise
        return decision

    async def claim(self, subject: str, plan: Plan, cost: int) -> Decision:
        """`acquire` for gates, whose rules may ask for a slot without tokens (`cost=0`)."""
        if self._checks and (subject.__class__ is not str or not subject or plan.__class__ is not Plan):
            check_claim(subject, plan)
        if cost and cost is not _ONE:
            cost = plan.check(cost)
        try:
            decision = await self.backend.acquire(subject, plan, cost)
        except BackendUnavailable:
            self.observers.report("unavailable", plan)
            raise
        try:
            if plan.shadowed and decision.exceeded:
                self.shadow.count(decision)
            if self.report is not None:
                self.report(decision)
        except BaseException:
            self.give_back(decision)
            raise
        return decision

    async def claim_jointly(self, claim: JointClaim, wait_ms: int = 0, queues: Sequence[Queue] = ()) -> Decision:
        """`acquire` for a claim that is made already. See `core.joint_claim`. It waits if all `queues` have room."""
        if wait_ms:
            return await async_acquire_in_line(self, joint_claim(self.backend, claim), wait_ms, queues)
        try:
            decision = await self.backend.acquire_joint(claim)
        except BackendUnavailable:
            self.observers.report("unavailable", claim.shape.plans[0])
            raise
        try:
            if claim.shape.has_shadow:
                self.shadow.count(decision)
            if self.report is not None:
                self.report(decision)
        except BaseException:
            self.give_back(decision)
            raise
        return decision

    @must_be_awaited
    async def peek(
        self, subject: str, plan: Plan, cost: Cost = 1, *, scope: str | None = None, also: Iterable[Budget] = ()
    ) -> Decision:
        """The decision that `acquire` would make now. Charges nothing and takes no slot. Raises as `acquire` does."""
        if scope is not None or also or isinstance(cost, Mapping):
            return await self.backend.peek_joint(acquired_jointly(subject, plan, cost, scope, also))
        check_claim(subject, plan)
        return await self.backend.peek(subject, plan, plan.check(cost))

    async def peek_jointly(self, claim: JointClaim) -> Decision:
        """`peek` for a claim that is made already."""
        return await self.backend.peek_joint(claim)

    async def release(self, decision: Decision) -> None:
        """Free the slot of `decision`, if it has one. A second call does nothing.

        It never waits and never raises for a Decision. Raises TypeError for anything else.
        """
        try:
            self.give_back(decision)
        except (AttributeError, LookupError, TypeError, ValueError):
            check_is_decision(decision, "release(decision)")
            raise

    def give_back(self, decision: Decision) -> None:
        """Synchronous `release`, for finalizers and cancelled requests."""
        self.backend.release(decision)
        if self._waited_for:
            self.lines.wake(decision)
        if self._released:
            for released in self._released:
                released(decision)

    def hold(self, subject: str, plan: Plan, cost: Cost = 1, **terms: Unpack[Terms]) -> AsyncHold:
        """Acquire for a `with` block, and check `allowed` in it. Takes what `acquire` takes, and raises as it does."""
        return AsyncHold(partial(self.acquire, subject, plan, cost, **terms), self.give_back)

    @function_options
    def limited(
        self,
        plan: str | Rate | Plan,
        *,
        subject: str | Callable[..., str] = EVERYONE,
        cost: Cost | Callable[..., Cost] = 1,
        scope: str | None = None,
        wait_ms: int = 0,
    ) -> Callable[[Function], Function]:
        """Limit a function, in its own buckets: a decorator for coroutine functions and async generators.

        See FunctionLimit for the arguments. A refused call raises RateLimited, and no limit of the function charges it.
        A slot is held until the function or generator ends. A generator is limited when its first value is requested.
        """
        limit = FunctionLimit(plan, subject=subject, cost=cost, scope=scope, wait_ms=wait_ms)
        return partial(async_limited, self, limit)

    async def refund(self, decision: Decision) -> None:
        """`settle` at a cost of 0, for work that was not done."""
        check_is_decision(decision, "refund(decision)")
        if await self.backend.refund(decision):
            self.observers.report("settled", decision, dict.fromkeys(cost_by_measure(decision.cost), 0))

    async def settle(self, decision: Decision, cost: Cost) -> None:
        """Correct a claim whose cost is known now: charge what it cost more, or give back what it cost less.

        `cost` is a number of requests or a mapping by measure. A measure that is not in it keeps its charge; one that
        the claim did not name was charged 0. The first `settle` or `refund` of a decision counts, and later ones do
        nothing. The slots stay taken until `release`. A refusal has nothing to settle.

        Less: a claim with ``settle=True`` is given back as if it had cost less from the start, for 10 minutes and while
        a subject has no more than 1,000 such claims open. Any other is given back the difference, less what refills in
        the time since the claim. A calendar rate gives nothing back after the end of its period. More: the difference
        is charged even beyond the burst, up to twice the capacity. `health` counts what is beyond that.

        Raises TypeError for anything but a Decision, ValueError for a wrong cost, and BackendUnavailable.
        """
        check_is_decision(decision, "settle(decision, cost)")
        if await self.backend.settle(decision, cost_by_measure(checked_cost(cost))):
            self.observers.report("settled", decision, cost)

    @must_be_awaited
    async def reset(self, subject: str, *, scope: str | None = None) -> bool:
        """Clear the debts of `subject` in all its scopes, or in `scope`; its leases stay.

        Returns whether it had any debt. Raises TypeError and InvalidLimit as `acquire` does, and BackendUnavailable.
        """
        check_subject(subject)
        found = [await self.backend.reset(subject, each) for each in scopes_to_reset(checked_scope(scope))]
        # A backend of another author may say nothing.
        return any(each is None or each for each in found)
