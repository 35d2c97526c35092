"""A guard around a backend that may fail: an outage costs milliseconds, keeps a bounded limit, and is loud.

Generated from `guarded.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

from awx_ratelimit.backends.base import Backend, Flushes, RenewsLeases
from awx_ratelimit.backends.resilience.fallback import OnOutage, Outage
from awx_ratelimit.backends.resilience.guarded import _NO_ANSWER
from awx_ratelimit.backends.validation import checked_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan


class GuardedBackend:
    """Guards `backend`, for threads. It takes any synchronous backend.

    After five consecutive failures, or a 50 % error rate, the circuit breaker opens; single probes close it again.
    Claims that travel in one call count as one.

    The backend keeps to `budget_ms` by itself, as RedisBackend does with `timeout_ms`: nothing interrupts it.

    If the backend has several servers, as a cluster has, it has a method ``home(subject)``, and each server has its own
    circuit breaker. If one subject's data is corrupt (StateDamaged), only that subject falls back to `on_outage`.

    `expected_workers` is the number of processes that share the limits.

    Raises InvalidLimit for a wrong value, and TypeError for a backend of the other kind.
    """

    checks_claims: ClassVar[bool] = True

    def __init__(
        self,
        backend: Backend,
        *,
        on_outage: OnOutage = "local",
        expected_workers: int = 1,
        budget_ms: int = 50,
    ) -> None:
        self.backend = checked_backend(backend, "GuardedBackend")
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
        if isinstance(self.backend, RenewsLeases):
            self.backend.renew_leases()

    def flush(self) -> None:
        """Send what waits in the backend, where something does. It raises nothing."""
        if isinstance(self.backend, Flushes):
            self.backend.flush()

    def health(self) -> Mapping[str, Any]:
        """How the backend is, the outages so far, and the decisions made without it in the last one."""
        return self._outage.health(self.backend.health() if self._outage.is_over else {})

    def close(self) -> None:
        """See Backend."""
        self.backend.close()
