"""Decides for a guard while its backend is unavailable. Never waits, so it serves threads and event loops."""

import logging
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args

from awx_ratelimit.backends.base import KnowsSettled, TakesLocalUsage
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.reports import OutageCounts
from awx_ratelimit.backends.resilience.circuit_breaker import CircuitBreaker, CircuitBreakers
from awx_ratelimit.backends.resilience.late_settlements import LateSettlements, settlement_by_thread
from awx_ratelimit.backends.resilience.local_share import OpenShares, Shares
from awx_ratelimit.backends.resilience.outage_log import OnOutage, OutageLog
from awx_ratelimit.backends.resilience.reconciliation import Reconciliation
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import ActualCost, charges
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable, InvalidLimit, StateDamaged
from awx_ratelimit.runtime.background_thread import BackgroundThread
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
#: For each server of a claim: its circuit breaker, the ticket there, and the number of failures when it was sent.
Tickets: TypeAlias = Sequence[tuple[CircuitBreaker, int, int]]
_RETRY_S = 1.0


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
        #: For claims of damaged records, which the backend cannot store and which are not reconciled.
        self._unreconciled_shares = Shares(expected_workers)
        self._open = OpenShares()
        self._can_settle = backend.can_settle if isinstance(backend, KnowsSettled) else None
        self._breakers = CircuitBreakers(backend)
        self._outage_log = OutageLog(on_outage)
        self._reconcile_from_s = 0.0
        self._outages = 0
        self._decisions = 0
        self._decisions_before = 0
        #: Decides with this process's share of each limit.
        self.local = MemoryBackend()
        self.reconciliation = Reconciliation(self.local, self._breakers.home)
        self.late = LateSettlements(self._breakers.home, self._can_settle)
        self._reconciling = BackgroundThread("awx_ratelimit healing")
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """In a child process: the parent reconciles, and counts, its own decisions."""
        self._outage_log.renew(self._decisions)
        self.reconciliation = Reconciliation(self.local, self._breakers.home)
        self.late = LateSettlements(self._breakers.home, self._can_settle)
        self._reconciling.renew()

    def permit(self, records: Sequence[Record]) -> Tickets | None:
        """Tickets for a claim of `records` that may go to the backend; None if one of their servers has an outage."""
        renew_if_forked()
        now_s = time.monotonic()
        breakers = dict.fromkeys(map(self._breakers.of, records))
        # Check all breakers first: a permitted probe that is not sent would delay the next one.
        if not all(breaker.would_permit(now_s) for breaker in breakers):
            return None
        permitted = [(breaker, breaker.permit(now_s), breaker.failures) for breaker in breakers]
        tickets = [(breaker, number, failures) for breaker, number, failures in permitted if number is not None]
        if len(tickets) == len(permitted):
            return tickets
        self.on_no_result(tickets)
        return None

    def on_success(self, tickets: Tickets, backend: Any) -> None:
        """The backend has answered a claim. Local decisions are now reconciled with it, in a thread."""
        for breaker, number, _ in tickets:
            self._on_answer(breaker, number)
        if (self.reconciliation.is_pending or self.late) and time.monotonic() >= self._reconcile_from_s:
            self._reconciling.start(self._reconcile, backend)

    def _on_answer(self, breaker: CircuitBreaker, number: int) -> None:
        if breaker.on_success(number, getattr(breaker.part, "answered_calls", None)):
            self._reconcile_from_s = time.monotonic()
        # Without traffic, the breaker that has opened may have been dropped since.
        if self._outage_log.began and breaker.is_closed:
            self._outage_log.end(breaker.part, self._decisions)

    def _reconcile(self, backend: Any) -> None:
        try:
            self._reconcile_usage(backend)
        except BackendUnavailable as error:
            # It stays pending, and a later answer starts it again.
            self._reconcile_from_s = time.monotonic() + _RETRY_S
            _log.warning("decisions made without the backend cannot be replayed to it yet: %s", error)
        except Exception:
            _log.exception("decisions made without the backend cannot be added to it")
            self.reconciliation.discard()

    def _reconcile_usage(self, backend: Any) -> None:
        release = backend.release
        try:
            if isinstance(backend, TakesLocalUsage):
                self.reconciliation.run(backend.heal, release)
            else:
                self.reconciliation.discard()
        finally:
            self.late.run(settlement_by_thread(backend))

    def release(self, decision: Decision, backend: Any) -> None:
        """Release the slots of a local decision, and its leases in the backend if there are any."""
        self.local.release(decision)
        for lease in self.reconciliation.on_release(decision):
            backend.release(lease)

    def permit_settlement(self, decision: Decision, actual: ActualCost) -> Tickets | bool:
        """Tickets for a settlement that may go to the backend. Else it is done here or kept; whether it counts.

        It never probes: for a decision that was refused or settled before, a backend does nothing and succeeds.
        """
        if self.decided(decision):
            decider = self.reconciliation if self._shares.owns(decision.plan) else self.local
            return decider.settle(decision, actual)
        if decision in self.late:
            return False
        breakers = {self._breakers.of(record) for record, _, _ in charges(decision)}
        if all(breaker.is_closed for breaker in breakers):
            now_s = time.monotonic()
            return [(breaker, breaker.permit(now_s) or 0, breaker.failures) for breaker in breakers]
        return self.late.add(decision, actual)

    def on_failure(self, tickets: Tickets, error: BaseException) -> StateDamaged | None:
        """The backend has not answered a claim. Returns the error if only the data of one of its records is corrupt.

        A claim of several servers fails if one of them does. Nobody knows which, so it counts for each of them: those
        that work answer other claims, which close their circuit breakers.
        """
        now_s = time.monotonic()
        if isinstance(error, BackendMisconfigured):
            self._outage_log.at_once(
                "the backend cannot be used as it is set up, and limits are %s meanwhile: %s", error
            )
        if isinstance(error, StateDamaged):
            self._outage_log.at_once("the limits of one subject are %s: %s", error)
            for breaker, number, _ in tickets:
                self._on_answer(breaker, number)
            return error
        if isinstance(error, BackendUnavailable) and (error.process_was_late or error.record_is_locked):
            self.on_no_result(tickets)
            return None
        for breaker, number, failures in tickets:
            # Otherwise another claim has failed since this one was sent: in the same call, or in the call before.
            if failures == breaker.failures:
                self._count_failure(breaker, number, error, now_s)
        return None

    def _count_failure(self, breaker: CircuitBreaker, number: int, error: BaseException, now_s: float) -> None:
        if breaker.on_failure(number, now_s, random.random()):  # noqa: S311  # no secret
            if self._breakers.count_open(now_s) == 1:
                self._decisions_before = self._decisions
            self._outages += 1
            self._outage_log.begin(breaker.part, self._decisions, str(error) or "no answer within the budget")

    def on_no_result(self, tickets: Tickets) -> None:
        """A claim was cancelled or failed by itself. That says nothing about the backend, so another may probe."""
        now_s = time.monotonic()
        for breaker, number, _ in tickets:
            breaker.on_no_result(number, now_s)

    def acquire(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None = None) -> Decision:
        """Decide without the backend. Raises BackendUnavailable if `on_outage` is ``closed``.

        A decision for a `damaged` subject is not reconciled: the backend cannot store it.
        """
        self._decisions += 1
        if self._on_outage != "local":
            return self._open_or_closed(subject, plan, cost, damaged)
        if damaged:
            return self.local.acquire(subject, self._unreconciled_shares.of(plan, cost), cost)
        return self.reconciliation.acquire(subject, self._shares.of(plan, cost), cost)

    def acquire_joint(self, claim: JointClaim, damaged: StateDamaged | None = None) -> Decision:
        """`acquire` for a JointClaim: every budget is decided with its share."""
        self._decisions += 1
        if self._on_outage != "local":
            return self._open_or_closed_jointly(claim, damaged)
        if damaged:
            return self.local.acquire_joint(self._unreconciled_shares.of_claim(claim))
        return self.reconciliation.acquire_joint(self._shares.of_claim(claim))

    def peek(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None = None) -> Decision:
        """What `acquire` would decide."""
        if self._on_outage == "local":
            return self.local.peek(subject, self._shares.of(plan, cost), cost)
        return self._open_or_closed(subject, plan, cost, damaged)

    def peek_joint(self, claim: JointClaim, damaged: StateDamaged | None = None) -> Decision:
        """What `acquire_joint` would decide."""
        if self._on_outage == "local":
            return self.local.peek_joint(self._shares.of_claim(claim))
        return self._open_or_closed_jointly(claim, damaged)

    def _open_or_closed(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None) -> Decision:
        self._check_is_open(damaged)
        return self._open.allowed(subject, plan, cost)

    def _open_or_closed_jointly(self, claim: JointClaim, damaged: StateDamaged | None) -> Decision:
        self._check_is_open(damaged)
        return self._open.allowed_jointly(claim)

    def _check_is_open(self, damaged: StateDamaged | None) -> None:
        if self._on_outage == "closed":
            raise damaged or BackendUnavailable("the backend does not answer, and on_outage='closed' refuses claims")

    def decided(self, decision: Decision) -> bool:
        """Whether `decision` was made here."""
        return any(shares.owns(decision.plan) for shares in (self._shares, self._unreconciled_shares, self._open))

    def health(self, backend_health: Mapping[str, Any]) -> Mapping[str, Any]:
        """The health of the backend, with the outages and the decisions made without it."""
        state = backend_health.get("state", "ok") if self.is_idle else f"outage: limits are {self._on_outage}"
        if backend_health.get("state") == "ok":
            self._outage_log.end_all(self._decisions)
        cut_off_tokens = backend_health.get("cut_off_tokens", 0) + self.local.health()["cut_off_tokens"]
        return {
            **backend_health,
            "state": state,
            "outages": self._outages,
            "decided_without_backend": self._decisions - self._decisions_before,
            "cut_off_tokens": cut_off_tokens,
            "lost_settlements": self.late.lost,
        }

    def counts(self) -> OutageCounts:
        return OutageCounts(self._breakers.count_open(time.monotonic()), self._outages, self._decisions)

    @property
    def is_idle(self) -> bool:
        return not self._breakers.count_open(time.monotonic())
