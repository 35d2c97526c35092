"""The state of one process: dicts and locks around the core.

Subjects are spread over stripes, each with a lock of its own that is held for the arithmetic alone. Giving a slot
back takes no lock (see `SubjectState`): it is safe in a finalizer, in a signal handler and in a cancelled task.
"""

import logging
from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar, Never

from awx_ratelimit.backends.base import checked_clock
from awx_ratelimit.backends.memory.shard import Shard
from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.backends.memory.worker_warning import warn_about_workers
from awx_ratelimit.core.claim import check_plan, check_subject, checked_claim, checked_subject
from awx_ratelimit.core.decide import decide, preview, refundable
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import MEASURED_FIRST, MEASURED_ONE_IN, HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.clock import Clock, SystemClock
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
_STRIPES = 64
_MASK = _STRIPES - 1
#: What `Decision(...)` ends in, without the call in between.
_new = tuple.__new__
_SWEEP_EVERY_MS = 4
_SWEEP_EVERY_NEW = 4
#: CPython has one int object for 1. Any other cost is checked.
_ONE = 1


class MemoryBackend:
    """Decides in this process, exactly and without waiting. Every other process has limits of its own.

    A limiter over it says so in the log, where it sees that this is one of several workers of a server.

    `clock` is an object with ``now_ms() -> int``; None is the machine's time. Subjects that owe nothing and hold
    nothing are forgotten in small steps, a minute after that.
    """

    #: No verb waits for anything.
    longest_wait_ms: ClassVar[int] = 0
    checks_claims: ClassVar[bool] = True

    def __init__(self, *misplaced: Never, clock: Clock | None = None) -> None:
        if misplaced:
            raise TypeError(
                f"MemoryBackend takes nothing but a clock, and was given {type_name(misplaced[0])}; "
                "write MemoryBackend(), or open_backend(url) for a backend at a URL"
            )
        self.begin(clock)
        self._decides = False
        register_after_fork(self.after_fork)

    def begin(self, clock: Clock | None = None) -> None:
        """Forget everything, leases too, and go on by `clock`: for tests."""
        self._now_ms = (SystemClock() if clock is None else checked_clock(clock)).now_ms
        self._stripes = [Shard() for _ in range(_STRIPES)]
        self._next_lease_id = count(1).__next__
        self._hold_times = HoldTimes()
        self._unmeasured = 0
        self._opened = 0
        self._sweep_at_ms = 0
        self._sweep_next = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:  # noqa: C901  # a call more costs a twentieth
        """See Backend."""
        # What else may be wrong is found below, before anything is changed.
        if type(subject) is not str or cost is not _ONE or not SAME_PROCESS:
            subject, plan, cost = checked_claim(subject, plan, cost)
            renew_if_forked()
        stripe = self._stripes[hash(subject) & _MASK]
        lock = stripe.lock
        holder: set[int] | None = None
        lease_id = 0
        for taken in stripe.turns:
            if not taken:
                stripe.wait()
                continue
            try:
                now_ms = self._now_ms()
                ledger = stripe.ledgers.get(subject) or self._opened_ledger(stripe, subject, plan)
                if ledger.bounds:
                    ledger.end_overdue(now_ms)
                same = ledger.layout is plan.layout
                state = ledger.levels if same else ledger.levels_under(plan)
                leases = ledger.leases
                held = len(leases)
                exceeded, levels = decide(plan, state, held, cost, now_ms)
                if exceeded and exceeded & plan.enforced:
                    ledger.asked(plan, state, levels, now_ms)
                else:
                    holder = leases
                    if not same:
                        ledger.change_layout(plan.layout)
                    ledger.levels = levels
                    if plan.slot_bit and held < plan.slots:
                        held += 1
                        lease_id = self._next_lease_id()
                        leases.add(lease_id)
                        if plan.max_hold_ms:
                            ledger.bound(lease_id, now_ms + plan.max_hold_ms)
            except AttributeError:
                check_plan(plan)
                raise
            finally:
                lock.release()
            break
        if now_ms >= self._sweep_at_ms:
            self._sweep(now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded and exceeded & plan.slot_bit else 0
        return _new(Decision, (subject, plan, cost, now_ms, exceeded, levels, held, lease_id, holder, slot_wait_ms))

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        renew_if_forked()
        stripe = self._stripes[hash(subject) & _MASK]
        with stripe.lock:
            now_ms = self._now_ms()
            ledger = stripe.known(subject) or SubjectState.new(plan)
            ledger.end_overdue(now_ms)
            state = ledger.levels_under(plan)
            held = len(ledger.leases)
            exceeded, levels = preview(plan, state, held, cost, now_ms)
            ledger.asked(plan, state, levels, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded & plan.slot_bit else 0
        return Decision(subject, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms)

    def release(self, decision: Decision) -> None:
        """See Backend."""
        _, _, _, _, _, _, _, lease_id, leases, _ = decision
        if lease_id:
            measured = not lease_id & self._unmeasured and lease_id in leases
            leases.discard(lease_id)
            if measured:
                self._measure(decision)

    def refund(self, decision: Decision) -> None:
        """See Backend."""
        if decision.holder is None:
            return
        renew_if_forked()
        stripe = self._stripes[hash(decision.subject) & _MASK]
        with stripe.lock:
            ledger = stripe.known(decision.subject) or SubjectState.new(decision.plan)
            if ledger.first_refund(decision):
                ledger.refund(refundable(decision, self._now_ms()))

    def reset(self, subject: str) -> None:
        """See Backend."""
        subject = checked_subject(subject)
        renew_if_forked()
        stripe = self._stripes[hash(subject) & _MASK]
        with stripe.lock:
            stripe.forget(subject)

    def health(self) -> Mapping[str, Any]:
        """See Backend: the subjects that are known and the leases that are open."""
        renew_if_forked()
        subjects = leases = 0
        for stripe in self._stripes:
            with stripe.lock:
                subjects += stripe.subjects
                leases += stripe.leases
        return {"state": "ok", "backend": "memory", "subjects": subjects, "leases": leases}

    def close(self) -> None:
        """See Backend: there is nothing to let go of."""

    def after_fork(self) -> None:
        """In a child process: locks that nobody holds, and none of the parent's leases."""
        for stripe in self._stripes:
            stripe.after_fork()
        if self._decides:
            warn_about_workers()

    def decides(self) -> None:
        """It was given to a limiter, and does not stand in for what is shared: warn where there are other workers."""
        self._decides = True
        warn_about_workers()

    def _opened_ledger(self, stripe: Shard, subject: str, plan: Plan) -> SubjectState:
        if not subject:
            check_subject(subject)
        self._opened += 1
        if self._opened >= _SWEEP_EVERY_NEW:
            self._sweep_at_ms = 0
        return stripe.ledger(subject, plan)

    def _measure(self, decision: Decision) -> None:
        if decision.lease_id >= MEASURED_FIRST:
            self._unmeasured = MEASURED_ONE_IN - 1
        try:
            self._hold_times.record(decision.plan, self._now_ms() - decision.decided_at_ms)
        except Exception:
            # A release never raises, whatever a clock of the user's does; the slot is free already.
            _log.exception("the clock of a MemoryBackend failed")

    def _sweep(self, now_ms: int) -> None:
        """One step of the sweep: every few subjects that came into use, so that it keeps up, and now and then."""
        self._opened = 0
        self._sweep_at_ms = now_ms + _SWEEP_EVERY_MS
        self._sweep_next = (self._sweep_next + 1) % _STRIPES
        stripe = self._stripes[self._sweep_next]
        # One try: a stripe in use is swept another time, so that nobody waits for a sweep.
        for taken in stripe.turns:
            if taken:
                try:
                    stripe.sweep(now_ms)
                finally:
                    stripe.lock.release()
            break
