"""A guard around a backend that may fail: it bounds the cost of an outage, keeps limiting, and logs it.

Generated from `guarded.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

from awx_ratelimit.backends.base import Backend
from awx_ratelimit.backends.resilience.fallback import Fallback, OnOutage
from awx_ratelimit.backends.resilience.guarded import _UNAVAILABLE
from awx_ratelimit.backends.resilience.wrapper_sync import Wrapper
from awx_ratelimit.backends.validation import checked_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan


class GuardedBackend(Wrapper):
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
        self._fallback = Fallback(self.backend, on_outage, expected_workers, budget_ms)
        self._budget_s = budget_ms / 1000

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        ticket = self._fallback.permit(subject)
        if ticket is None:
            return self._fallback.acquire(subject, plan, cost)
        try:
            with nullcontext():
                decision: Decision = self.backend.acquire(subject, plan, cost)
        except _UNAVAILABLE as error:
            return self._fallback.acquire(subject, plan, cost, self._fallback.on_failure(ticket, error))
        except BaseException:
            self._fallback.on_no_result(ticket)
            raise
        self._fallback.on_success(ticket, self.backend)
        return decision

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        ticket = self._fallback.permit(subject)
        if ticket is None:
            return self._fallback.peek(subject, plan, cost)
        try:
            with nullcontext():
                decision: Decision = self.backend.peek(subject, plan, cost)
        except _UNAVAILABLE as error:
            return self._fallback.peek(subject, plan, cost, self._fallback.on_failure(ticket, error))
        except BaseException:
            self._fallback.on_no_result(ticket)
            raise
        self._fallback.on_success(ticket, self.backend)
        return decision

    def release(self, decision: Decision) -> None:
        if self._fallback.decided(decision):
            self._fallback.release(decision, self.backend)
        else:
            self.backend.release(decision)

    def refund(self, decision: Decision) -> None:
        """See Backend. Refunds a local decision locally."""
        if self._fallback.decided(decision):
            self._fallback.local.refund(decision)
        else:
            self.backend.refund(decision)

    def reset(self, subject: str) -> None:
        subject = checked_subject(subject)
        self._fallback.reconciliation.reset(subject)
        self.backend.reset(subject)

    def health(self) -> Mapping[str, Any]:
        """The health of the backend, the number of outages, and the decisions made without it in the latest one."""
        return self._fallback.health(self.backend.health() if self._fallback.is_idle else {})
