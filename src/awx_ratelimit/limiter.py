"""`AsyncLimiter`: the verbs that users call, on any backend."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from awx_ratelimit.backends.base import AsyncBackend, Backend, checked_async_backend, checks_claims
from awx_ratelimit.core.claim import check_claim, check_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.observability.listeners import Listener, checked_listeners, notify
from awx_ratelimit.observability.shadow import ShadowCounts
from awx_ratelimit.pending_decision import AsyncHold, check_is_decision, must_be_awaited

#: CPython has one int object for 1. Whatever else a cost is, it is checked.
_ONE = 1


class AsyncLimiter:
    """Decides claims against plans, from the tasks of an event loop.

    A refusal is a value, not an exception. `listeners` are called with every Decision of `acquire`; what they raise is
    logged and not passed on.

    Takes an async backend, or a synchronous one that never waits longer than 50 ms (memory, host). Any other backend
    raises TypeError. So does the result of `acquire` or `peek` without ``await`` when it is used as a condition.
    """

    def __init__(self, backend: AsyncBackend | Backend, *, listeners: Iterable[Listener] = ()) -> None:
        self.backend = checked_async_backend(backend)
        self.listeners = checked_listeners(listeners)
        self._checks = not checks_claims(self.backend)
        #: Counts what shadow limits would have refused, for `health`.
        self.shadow = ShadowCounts()

    @must_be_awaited
    async def acquire(self, subject: str, plan: Plan, cost: int = 1) -> Decision:
        """Charge `cost` tokens of every rate of `plan` and take a slot: all of it or nothing, in one step.

        A bucket belongs to `subject` and the name of a limit: two plans share the limits of one subject that have the
        same name. Use another subject, such as ``login:user_1``, for something that is limited separately.

        Give the slot back with `release` when the work is done. Raises ValueError for a cost that is no whole number
        of at least 1, ImpossibleClaim for one above a burst, TypeError for a subject that is not a non-empty string or
        a plan that is not a Plan, BackendUnavailable where there is no decision.
        """
        if self._checks and (subject.__class__ is not str or not subject or plan.__class__ is not Plan):
            check_claim(subject, plan)
        if cost is not _ONE:
            plan.check(cost)
        decision = await self.backend.acquire(subject, plan, cost)
        if plan.shadowed and decision.exceeded:
            self.shadow.count(decision)
        if self.listeners:
            notify(self.listeners, decision, self.backend.release)
        return decision

    async def claim(self, subject: str, plan: Plan, cost: int) -> Decision:
        """`acquire` for a gate, whose rules may also ask for a slot and no tokens (`cost=0`)."""
        if self._checks and (subject.__class__ is not str or not subject or plan.__class__ is not Plan):
            check_claim(subject, plan)
        if cost and cost is not _ONE:
            plan.check(cost)
        decision = await self.backend.acquire(subject, plan, cost)
        if plan.shadowed and decision.exceeded:
            self.shadow.count(decision)
        if self.listeners:
            notify(self.listeners, decision, self.backend.release)
        return decision

    @must_be_awaited
    async def peek(self, subject: str, plan: Plan, cost: int = 1) -> Decision:
        """What `acquire` would answer now; it charges nothing and carries no lease. Raises as `acquire` does."""
        check_claim(subject, plan)
        plan.check(cost)
        return await self.backend.peek(subject, plan, cost)

    async def release(self, decision: Decision) -> None:
        """Give the slot back, if there is one; harmless twice. It never waits, and raises nothing for a Decision."""
        try:
            self.backend.release(decision)
        except (AttributeError, TypeError, ValueError):
            check_is_decision(decision, "release")
            raise

    def give_back(self, decision: Decision) -> None:
        """Synchronous `release`, for finalizers and cancelled requests."""
        self.backend.release(decision)

    def hold(self, subject: str, plan: Plan, cost: int = 1) -> AsyncHold:
        """Acquire for the length of a `with` block; look at `allowed` inside. Raises as `acquire` does."""
        return AsyncHold(partial(self.acquire, subject, plan, cost), self.backend.release)

    async def refund(self, decision: Decision) -> None:
        """Give back the tokens that `decision` charged, less what time has given back already; once for each decision.

        For work that was not done after all. Of a calendar rate nothing is given back after its boundary. The slot is
        not touched: that is `release`. Nothing to do for a refusal. Raises TypeError for anything but a Decision, and
        BackendUnavailable.
        """
        check_is_decision(decision, "refund")
        await self.backend.refund(decision)

    async def reset(self, subject: str) -> None:
        """Forget what `subject` owes, never its live leases. Raises TypeError as `acquire` does, BackendUnavailable."""
        check_subject(subject)
        await self.backend.reset(subject)

    async def renew_leases(self) -> None:
        """Renew every open lease, where leases lapse: a backend does it by itself, this is once more and now.

        Raises BackendUnavailable.
        """
        renew = getattr(self.backend, "renew_leases", None)
        if renew is not None:
            await renew()

    async def flush(self) -> None:
        """Send what waits to be sent, such as released leases, within the time that a decision may take.

        For platforms that freeze a process between requests: call it before you return the response. An orderly exit
        does it by itself. Nothing to do where nothing is sent (memory, host). It never raises.
        """
        flush = getattr(self.backend, "flush", None)
        if flush is not None:
            await flush()

    async def health(self) -> Mapping[str, Any]:
        """How the backend is: ``state`` (``ok`` or what is wrong), ``backend``, and what it counts. It never raises.

        ``shadow_refusals`` counts, by plan and limit, the claims that a limit in shadow would have refused in this
        process. It is there once there is one.
        """
        return self.shadow.beside(await self.backend.health())

    async def aclose(self) -> None:
        """Give back every lease that is still held, and let go of the backend. Harmless twice."""
        await self.backend.close()
