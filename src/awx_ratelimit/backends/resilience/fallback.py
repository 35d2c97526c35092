"""Decides for a guard while its backend is unavailable. Never waits, so it serves threads and event loops."""

import logging
import random
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from awx_ratelimit.backends.base import TakesLocalUsage
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.circuit_breaker import CircuitBreaker, CircuitBreakers
from awx_ratelimit.backends.resilience.local_share import Shares
from awx_ratelimit.backends.resilience.reconciliation import Reconciliation
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable, InvalidLimit, StateDamaged
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
OnOutage = Literal["local", "open", "closed"]
#: A claim's circuit breaker, its ticket there, and the number of failures when it was sent.
Ticket: TypeAlias = tuple[CircuitBreaker, int, int]
#: The pause after a failed reconciliation.
_RETRY_S = 1.0
#: Every claim of a corrupt subject meets the error, so it is logged at most once per interval.
_LOG_INTERVAL_S = 60.0


class Fallback:
    """See GuardedBackend for the parameters. Raises InvalidLimit for a wrong value."""

    def __init__(self, backend: Any, on_outage: OnOutage, expected_workers: int, budget_ms: int) -> None:
        if on_outage not in get_args(OnOutage):
            raise InvalidLimit(f"on_outage: expected 'local', 'open' or 'closed', got {on_outage!r}")
        for name, number in (("expected_workers", expected_workers), ("budget_ms", budget_ms)):
            if number.__class__ is not int or number < 1:
                raise InvalidLimit(f"{name}: expected an integer >= 1, got {number!r}")
        self._on_outage = on_outage
        self._shares = Shares(expected_workers)
        self._breakers = CircuitBreakers(backend)
        self._began_s: dict[CircuitBreaker, float] = {}
        self._reconcile_from_s = 0.0
        self._log_from_s = 0.0
        self._outages = 0
        self._decisions = 0
        #: Decides with this process's share of each limit.
        self.local = MemoryBackend()
        self.reconciliation = Reconciliation(self.local, self._breakers.home)
        self._reconciling = threading.Lock()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """In a child process: the parent reconciles its own decisions."""
        self.reconciliation = Reconciliation(self.local, self._breakers.home)
        self._reconciling = threading.Lock()

    def permit(self, subject: str) -> Ticket | None:
        """A ticket for a claim that may go to the backend; None during an outage."""
        renew_if_forked()
        breaker = self._breakers.of(subject)
        number = breaker.permit(time.monotonic())
        return None if number is None else (breaker, number, breaker.failures)

    def on_success(self, ticket: Ticket, backend: Any) -> None:
        """The backend has answered a claim. Local decisions are now reconciled with it, in a thread."""
        breaker, number, _ = ticket
        if breaker.on_success(number, getattr(breaker.part, "answered_calls", None)):
            now_s = time.monotonic()
            seconds, self._reconcile_from_s = now_s - self._began_s.pop(breaker, now_s), now_s
            message = "the backend answers again, after %.1f s and %d decisions without it"
            _log.warning(message, seconds, self._decisions)
        due = self.reconciliation.is_pending and time.monotonic() >= self._reconcile_from_s
        if due and self._reconciling.acquire(blocking=False):
            name = "awx_ratelimit healing"
            threading.Thread(target=self._reconcile, args=(backend,), name=name, daemon=True).start()

    def _reconcile(self, backend: Any) -> None:
        release = backend.release
        try:
            if isinstance(backend, TakesLocalUsage):
                self.reconciliation.run(backend.heal, release)
            else:
                self.reconciliation.discard()
        except BackendUnavailable as error:
            # It stays pending, and a later answer starts it again.
            self._reconcile_from_s = time.monotonic() + _RETRY_S
            _log.warning("decisions made without the backend could not be added to it yet: %s", error)
        except Exception:
            _log.exception("decisions made without the backend cannot be added to it")
            self.reconciliation.discard()
        finally:
            self._reconciling.release()

    def release(self, decision: Decision, backend: Any) -> None:
        """Release the slot of a local decision, and its lease in the backend if there is one."""
        self.local.release(decision)
        lease = self.reconciliation.on_release(decision)
        if lease is not None:
            backend.release(lease)

    def on_failure(self, ticket: Ticket, error: BaseException) -> StateDamaged | None:
        """The backend has not answered a claim. Returns the error if only the data of its subject is corrupt."""
        (breaker, number, failures), now_s = ticket, time.monotonic()
        if isinstance(error, StateDamaged):
            self._log_damage(error, now_s)
            breaker.on_success(number)
            return error
        if isinstance(error, BackendUnavailable) and error.process_was_late:
            breaker.on_no_result(number, now_s)
            return None
        if failures != breaker.failures:
            # Another claim has failed since this one was sent: in the same call, or in the call before.
            return None
        if breaker.on_failure(number, now_s, random.random()):  # noqa: S311  # no secret
            if self._breakers.count_open(now_s) == 1:
                self._began_s, self._decisions = {}, 0
            self._began_s[breaker] = now_s
            self._outages += 1
            why = str(error) or "no answer within the budget"
            _log.error("the backend does not answer, and limits are %s until it does: %s", self._on_outage, why)
        return None

    def on_no_result(self, ticket: Ticket) -> None:
        """A claim was cancelled or failed by itself. That says nothing about the backend, so another may probe."""
        breaker, number, _ = ticket
        breaker.on_no_result(number, time.monotonic())

    def _log_damage(self, error: StateDamaged, now_s: float) -> None:
        if now_s >= self._log_from_s:
            self._log_from_s = now_s + _LOG_INTERVAL_S
            _log.error("the limits of one subject are %s: %s", self._on_outage, error)

    def acquire(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None = None) -> Decision:
        """Decide without the backend. Raises BackendUnavailable if `on_outage` is ``closed``.

        A decision for a `damaged` subject is not reconciled: the backend cannot store it.
        """
        self._decisions += 1
        if self._on_outage != "local":
            return self._open_or_closed(subject, plan, cost, damaged)
        share = self._shares.of(plan, cost)
        decider = self.local if damaged else self.reconciliation
        return decider.acquire(subject, share, cost)

    def peek(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None = None) -> Decision:
        """What `acquire` would decide."""
        if self._on_outage == "local":
            return self.local.peek(subject, self._shares.of(plan, cost), cost)
        return self._open_or_closed(subject, plan, cost, damaged)

    def _open_or_closed(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None) -> Decision:
        if self._on_outage == "closed":
            raise damaged or BackendUnavailable("the backend does not answer, and on_outage='closed' refuses claims")
        now_ms = time.time_ns() // 1_000_000
        return Decision(subject, plan, cost, now_ms, 0, [0, 0] * len(plan.rates), 0, 0, None, 0)

    def decided(self, decision: Decision) -> bool:
        """Whether `decision` was made here."""
        return self._shares.owns(decision.plan)

    def health(self, backend_health: Mapping[str, Any]) -> Mapping[str, Any]:
        """The health of the backend, with the outages and the decisions made without it."""
        state = backend_health.get("state", "ok") if self.is_idle else f"outage: limits are {self._on_outage}"
        return {**backend_health, "state": state, "outages": self._outages, "decided_without_backend": self._decisions}

    @property
    def is_idle(self) -> bool:
        """Whether all circuit breakers are closed."""
        return not self._breakers.count_open(time.monotonic())
