"""A guard around a backend that may fail: an outage costs milliseconds, keeps a bounded limit, and is loud.

While the backend does not answer, law 4 is relaxed as `on_outage` says:

    local    each process decides for its share of each limit: together at most the limit times the number of processes
             over `expected_workers`, plus one token for each process, plus what the backend had admitted before
    open     everything is allowed, and no slot is taken
    closed   nothing is allowed: BackendUnavailable, which a gate answers with 503
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from awx_ratelimit.backends.base import AsyncBackend, Backend, Flushes, RenewsLeases
from awx_ratelimit.backends.resilience.fallback import OnOutage, Outage
from awx_ratelimit.backends.validation import checked_async_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import TaskDeadline

_NO_ANSWER = (BackendUnavailable, TimeoutError)


class AsyncGuardedBackend:
    """Guards `backend`, for the tasks of event loops. It takes any backend that AsyncLimiter accepts.

    After five consecutive failures, or a 50 % error rate, the circuit breaker opens; single probes close it again.
    Claims that travel in one call count as one.

    A claim waits up to `budget_ms` for the backend. Delays of this process, such as a blocked event loop or threads
    that wait for their turn, are added to the budget and are not failures of the backend.

    If the backend has several servers, as a cluster has, it has a method ``home(subject)``, and each server has its own
    circuit breaker. If one subject's data is corrupt (StateDamaged), only that subject falls back to `on_outage`.

    `expected_workers` is the number of processes that share the limits.

    Raises InvalidLimit for a wrong value, and TypeError for a backend of the other kind.
    """

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
        self.backend = checked_async_backend(backend, "AsyncGuardedBackend")
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
        if isinstance(self.backend, RenewsLeases):
            await self.backend.renew_leases()

    async def flush(self) -> None:
        """Send what waits in the backend, where something does. It raises nothing."""
        if isinstance(self.backend, Flushes):
            await self.backend.flush()

    async def health(self) -> Mapping[str, Any]:
        """How the backend is, the outages so far, and the decisions made without it in the last one."""
        return self._outage.health(await self.backend.health() if self._outage.is_over else {})

    async def close(self) -> None:
        """See Backend."""
        await self.backend.close()
