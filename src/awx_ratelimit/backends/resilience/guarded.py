"""A backend that may fail, guarded: its outage costs milliseconds, keeps a bounded limit, and is loud.

While the backend does not answer, law 4 is relaxed, as `on_outage` says:

    local    each process decides its share of each limit: together at most the limit times the number of processes over
             `expected_workers`, and a token more for each; and the same again for what the backend had admitted before
    open     everything is allowed, and no slot is taken
    closed   nothing is: BackendUnavailable, which a gate answers with 503

`GuardedBackend` is for threads and `AsyncGuardedBackend` for event loops: two twins.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

from awx_ratelimit.backends.base import AsyncBackend, Backend, usable_async_backend, usable_backend
from awx_ratelimit.backends.resilience.fallback import OnOutage, Outage
from awx_ratelimit.core.claims import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import TaskDeadline

_NO_ANSWER = (BackendUnavailable, TimeoutError)


class GuardedBackend:
    """Guards `backend`: after five failed calls in a row, or of half its calls, it is not asked until it answers again.

    Claims that wait at the same time fail as one call. A claim waits for its budget, and for the delays of this process
    (a blocked event loop, greenlets or threads that wait for their turn), which are no failures of the backend.

    A backend on several servers, such as a cluster, has a ``home(subject)``: each of them is guarded by itself. What it
    holds of one subject and cannot read (StateDamaged) is decided as in an outage, and is no failure of others.

    `expected_workers` is how many processes share its limits. `budget_ms` is how long a decision waits for the backend
    at most; a synchronous one keeps to it by itself (`timeout_ms` of a RedisBackend), for nothing can interrupt it.

    Raises InvalidLimit for a field that is wrong, and TypeError for a backend of the other kind.
    """

    checks_claims: ClassVar[bool] = True

    def __init__(
        self, backend: Backend, *, on_outage: OnOutage = "local", expected_workers: int = 1, budget_ms: int = 50
    ) -> None:
        self.backend = usable_backend(backend, "GuardedBackend")
        self._outage = Outage(self.backend, on_outage, expected_workers, budget_ms)
        self._budget_s = budget_ms / 1000

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        ticket = self._outage.ask(subject)
        if ticket is None:
            return self._outage.acquire(subject, plan, cost)
        try:
            with nullcontext():
                decision = self.backend.acquire(subject, plan, cost)
        except _NO_ANSWER as error:
            return self._outage.acquire(subject, plan, cost, self._outage.failed(ticket, error))
        except BaseException:
            self._outage.gave_up(ticket)
            raise
        self._outage.answered(ticket, self.backend)
        return decision

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        ticket = self._outage.ask(subject)
        if ticket is None:
            return self._outage.peek(subject, plan, cost)
        try:
            with nullcontext():
                decision = self.backend.peek(subject, plan, cost)
        except _NO_ANSWER as error:
            return self._outage.peek(subject, plan, cost, self._outage.failed(ticket, error))
        except BaseException:
            self._outage.gave_up(ticket)
            raise
        self._outage.answered(ticket, self.backend)
        return decision

    def release(self, decision: Decision) -> None:
        """See Backend."""
        if self._outage.is_local(decision):
            self._outage.release(decision, self.backend)
        else:
            self.backend.release(decision)

    def refund(self, decision: Decision) -> None:
        """See Backend: where it was decided."""
        if self._outage.is_local(decision):
            self._outage.local.refund(decision)
        else:
            self.backend.refund(decision)

    def reset(self, subject: str) -> None:
        """See Backend."""
        subject = checked_subject(subject)
        self._outage.reset(subject)
        self.backend.reset(subject)

    def renew_leases(self) -> None:
        """Renew the leases of the backend, where they lapse. Raises BackendUnavailable."""
        renew = getattr(self.backend, "renew_leases", None)
        if renew is not None:
            renew()

    def flush(self) -> None:
        """Send what waits in the backend, where something does. It raises nothing."""
        flush = getattr(self.backend, "flush", None)
        if flush is not None:
            flush()

    def health(self) -> Mapping[str, Any]:
        """How the backend is, the outages so far, and the decisions made without it in the last one."""
        return self._outage.health(self.backend.health() if self._outage.is_over else {})

    def close(self) -> None:
        """See Backend."""
        self.backend.close()


class AsyncGuardedBackend:
    """The same for the tasks of event loops, over any backend that AsyncLimiter accepts. See GuardedBackend."""

    checks_claims: ClassVar[bool] = True
    needs_asyncio: ClassVar[bool] = True

    def __init__(
        self,
        backend: AsyncBackend | Backend,
        *,
        on_outage: OnOutage = "local",
        expected_workers: int = 1,
        budget_ms: int = 50,
    ) -> None:
        self.backend = usable_async_backend(backend, "AsyncGuardedBackend")
        self._outage = Outage(self.backend, on_outage, expected_workers, budget_ms)
        self._budget_s = budget_ms / 1000

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        ticket = self._outage.ask(subject)
        if ticket is None:
            return self._outage.acquire(subject, plan, cost)
        try:
            with TaskDeadline(self._budget_s, all_delays=True):
                decision = await self.backend.acquire(subject, plan, cost)
        except _NO_ANSWER as error:
            return self._outage.acquire(subject, plan, cost, self._outage.failed(ticket, error))
        except BaseException:
            self._outage.gave_up(ticket)
            raise
        self._outage.answered(ticket, self.backend)
        return decision

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        ticket = self._outage.ask(subject)
        if ticket is None:
            return self._outage.peek(subject, plan, cost)
        try:
            with TaskDeadline(self._budget_s, all_delays=True):
                decision = await self.backend.peek(subject, plan, cost)
        except _NO_ANSWER as error:
            return self._outage.peek(subject, plan, cost, self._outage.failed(ticket, error))
        except BaseException:
            self._outage.gave_up(ticket)
            raise
        self._outage.answered(ticket, self.backend)
        return decision

    def release(self, decision: Decision) -> None:
        """See Backend."""
        if self._outage.is_local(decision):
            self._outage.release(decision, self.backend)
        else:
            self.backend.release(decision)

    async def refund(self, decision: Decision) -> None:
        """See Backend: where it was decided."""
        if self._outage.is_local(decision):
            self._outage.local.refund(decision)
        else:
            await self.backend.refund(decision)

    async def reset(self, subject: str) -> None:
        """See Backend."""
        subject = checked_subject(subject)
        self._outage.reset(subject)
        await self.backend.reset(subject)

    async def renew_leases(self) -> None:
        """Renew the leases of the backend, where they lapse. Raises BackendUnavailable."""
        renew = getattr(self.backend, "renew_leases", None)
        if renew is not None:
            await renew()

    async def flush(self) -> None:
        """Send what waits in the backend, where something does. It raises nothing."""
        flush = getattr(self.backend, "flush", None)
        if flush is not None:
            await flush()

    async def health(self) -> Mapping[str, Any]:
        """How the backend is, the outages so far, and the decisions made without it in the last one."""
        return self._outage.health(await self.backend.health() if self._outage.is_over else {})

    async def close(self) -> None:
        """See Backend."""
        await self.backend.close()
