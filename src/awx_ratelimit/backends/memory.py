"""The state of one process: dicts and locks around the core.

Subjects are spread over stripes, each with a lock of its own that is held for the arithmetic alone. A release is
appended to its stripe and settled before the next decision there, so that giving a slot back takes no lock: it is
safe in a finalizer, in a signal handler and in a cancelled task.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar

from awx_ratelimit.backends.base import Clock
from awx_ratelimit.backends.clock import SystemClock
from awx_ratelimit.backends.stripe import Entry, Stripe
from awx_ratelimit.core.charge import charge, given_back, rebased, uncharged
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.holding import MEASURE_ALL, THEN_ONE_IN, HoldTimes
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.forks import renewed_after_fork

_STRIPES = 64
#: What `Decision(...)` ends in, without the call in between.
_new = tuple.__new__
_SWEEP_EVERY_MS = 16
_SWEEP_EVERY_NEW = 16


class MemoryBackend:
    """Decides in this process, exactly and without waiting. Every other process has limits of its own.

    `clock` is an object with ``now_ms() -> int``; None is the machine's time. Subjects that owe nothing and hold
    nothing are forgotten in small steps, a minute after that.
    """

    never_waits: ClassVar[bool] = True

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.begin(clock)
        renewed_after_fork(self.after_fork)

    def begin(self, clock: Clock | None = None) -> None:
        """Forget everything, leases too, and go on by `clock`: for tests."""
        self._now_ms = (clock or SystemClock()).now_ms
        self._stripes = [Stripe() for _ in range(_STRIPES)]
        self._lease_ids = count(1)
        self._hold_times = HoldTimes()
        self._new = 0
        self._sweep_at_ms = 0
        self._sweep_next = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        stripe = self._stripes[hash(subject) % _STRIPES]
        lock = stripe.lock
        lease_id = 0
        holder: list[Any] | None = None
        # Without `with`, which costs as much again as the lock.
        lock.acquire()
        try:
            now_ms = self._now_ms()
            if stripe.released:
                stripe.settle()
            if stripe.bounded:
                stripe.end_overdue(subject, now_ms)
            layout = plan.layout
            stored = stripe.entries.get(subject)
            if isinstance(stored, list) and stored[-1] is layout:
                entry = stored
                known = True
            else:
                entry = stripe.entry(subject, plan)
                known = False
            held = entry[-2]
            over, levels = charge(plan, entry, held, cost, now_ms)
            if over & plan.enforced:
                self._rebase(stripe, subject, plan, entry, levels, now_ms)
            else:
                if plan.slot_bit & ~over:
                    held += 1
                    lease_id = next(self._lease_ids)
                    holder = [stripe.released]
                    if plan.max_hold_ms:
                        stripe.bound(subject, holder, now_ms + plan.max_hold_ms)
                else:
                    holder = [None]
                levels[-2] = held
                if known:
                    stripe.entries[subject] = levels
                else:
                    stripe.store(subject, levels)
        finally:
            lock.release()
        if now_ms >= self._sweep_at_ms or not known:
            self._sweep(now_ms, known)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if over & plan.slot_bit else 0
        return _new(Decision, (subject, plan, cost, now_ms, over, levels, held, lease_id, holder, slot_wait_ms))

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        stripe = self._stripes[hash(subject) % _STRIPES]
        with stripe.lock:
            now_ms = self._now_ms()
            stripe.settle()
            stripe.end_overdue(subject, now_ms)
            entry = stripe.entry(subject, plan)
            held = entry[-2]
            over, levels = uncharged(plan, entry, held, cost, now_ms)
            self._rebase(stripe, subject, plan, entry, levels, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if over & plan.slot_bit else 0
        return Decision(subject, plan, cost, now_ms, over, levels, held, 0, None, slot_wait_ms)

    def release(self, decision: Decision) -> None:
        """See Backend."""
        holder = decision.holder
        if holder is not None and holder[0] is not None:
            lease_id = decision.lease_id
            if lease_id < MEASURE_ALL or not lease_id % THEN_ONE_IN:
                self._hold_times.record(decision.plan, self._now_ms() - decision.decided_at_ms)
            holder[0].append(decision)

    def refund(self, decision: Decision) -> None:
        """See Backend."""
        holder = decision.holder
        if holder is None:
            return
        stripe = self._stripes[hash(decision.subject) % _STRIPES]
        with stripe.lock:
            stripe.settle()
            if len(holder) == 1:
                holder.append("refunded")
                stripe.refund(decision.subject, given_back(decision, self._now_ms()))

    def reset(self, subject: str) -> None:
        """See Backend."""
        stripe = self._stripes[hash(subject) % _STRIPES]
        with stripe.lock:
            stripe.settle()
            stripe.forget(subject)

    def health(self) -> Mapping[str, Any]:
        """See Backend: the subjects that are known and the leases that are open."""
        known = leases = 0
        for stripe in self._stripes:
            with stripe.lock:
                stripe.settle()
                known += stripe.known
                leases += stripe.held
        return {"state": "ok", "backend": "memory", "subjects": known, "leases": leases}

    def close(self) -> None:
        """See Backend: there is nothing to let go of."""

    def after_fork(self) -> None:
        """In a child process: locks that nobody holds, and none of the parent's leases."""
        for stripe in self._stripes:
            stripe.after_fork()

    def _rebase(self, stripe: Stripe, subject: str, plan: Plan, entry: Entry, levels: list[int], now_ms: int) -> None:
        names = rebased(plan, entry, levels, now_ms)
        if names:
            stripe.rebase(subject, names, now_ms)

    def _sweep(self, now_ms: int, known: bool) -> None:
        """One step of the sweep: every few new subjects, so that it keeps up with them, and now and then."""
        self._new += not known
        if self._new < _SWEEP_EVERY_NEW and 0 < self._sweep_at_ms - now_ms <= _SWEEP_EVERY_MS:
            return
        self._new = 0
        self._sweep_at_ms = now_ms + _SWEEP_EVERY_MS
        self._sweep_next = (self._sweep_next + 1) % _STRIPES
        stripe = self._stripes[self._sweep_next]
        # A stripe in use is swept another time: nobody waits for a sweep.
        if stripe.lock.acquire(blocking=False):
            try:
                stripe.settle()
                stripe.sweep(now_ms)
            finally:
                stripe.lock.release()
