"""`MemoryBackend`: limits in the memory of one process.

Subjects are spread over shards. Each shard has a lock, held only for the arithmetic. `release` takes no lock (see
`SubjectState`), so it is safe in finalizers, signal handlers and cancelled tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Never

from awx_ratelimit.backends.memory.joint_decisions import (
    JointHolder,
    charge_records,
    decide_records,
    found,
    refuse_records,
)
from awx_ratelimit.backends.memory.shard import Shard
from awx_ratelimit.backends.memory.subject_state import SubjectState, first_settlement
from awx_ratelimit.backends.memory.worker_warning import warn_about_workers
from awx_ratelimit.backends.validation import checked_clock
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.claim import check_plan, check_subject, checked_claim, checked_subject
from awx_ratelimit.core.decide import decide, preview
from awx_ratelimit.core.decision import Decision, HoldTimes, JointDecision, joint_decision
from awx_ratelimit.core.joint_claim import Charge, JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost, charges, corrections
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.clock import Clock, SystemClock
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked

_SHARDS = 64
_MASK = _SHARDS - 1
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__
_SWEEP_INTERVAL_MS = 4
_SWEEP_AFTER_LOADS = 4
#: See "Identity checks" in docs/hot-path.md.
_ONE = 1


class MemoryBackend:
    """Decides in the memory of this process, exactly and without waiting. Each process has separate limits.

    A limiter that uses it logs a warning if this process is one of several workers of a server.

    `clock` is an object with ``now_ms() -> int``; None is the time of this machine. Subjects without debts and leases
    are forgotten after a minute, a few at a time.
    """

    longest_wait_ms: ClassVar[int] = 0
    checks_claims: ClassVar[bool] = True

    def __init__(self, *misplaced: Never, clock: Clock | None = None) -> None:
        if misplaced:
            raise TypeError(
                f"MemoryBackend takes only a clock, got {type_name(misplaced[0])}; "
                "write MemoryBackend(), or open_backend(url) for a backend at a URL"
            )
        self.begin(clock)
        self._is_used = False
        register_after_fork(self.after_fork)

    def begin(self, clock: Clock | None = None) -> None:
        """Forget everything, including leases, and use `clock`. For tests."""
        self._now_ms = (SystemClock() if clock is None else checked_clock(clock)).now_ms
        self._shards = [Shard() for _ in range(_SHARDS)]
        self._next_lease_id = count(1).__next__
        self._hold_times = HoldTimes()
        self._unmeasured = 0
        self._loaded_since_sweep = 0
        self._sweep_at_ms = 0
        self._sweep_next = 0
        self._scopes: dict[str, None] = {}
        self._cut_off_tokens = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:  # noqa: C901, PLR0912  # see docs/hot-path.md
        # The other mistakes raise AttributeError below, before anything is changed.
        if type(subject) is not str or cost is not _ONE or not SAME_PROCESS:
            subject, plan, cost = checked_claim(subject, plan, cost)
            renew_if_forked()
        shard = self._shards[hash(subject) & _MASK]
        lock = shard.lock
        holder: set[int] | None = None
        lease_id = 0
        for taken in shard.attempts:
            if not taken:
                shard.wait()
                continue
            try:
                now_ms = self._now_ms()
                state = shard.states.get(subject) or self._load_state(shard, subject, plan)
                if state.bounds:
                    state.end_overdue(now_ms)
                same = state.layout is plan.layout
                rate_levels = state.levels if same else state.levels_under(plan)
                leases = state.leases
                held = len(leases)
                exceeded, levels = decide(plan, rate_levels, held, cost, now_ms)
                if exceeded and exceeded & plan.enforced:
                    state.note_refusal(plan, rate_levels, levels, now_ms)
                else:
                    holder = leases
                    if same:
                        state.levels = levels
                    else:
                        state.store_charged(plan, levels)
                    if state.open is not None:
                        state.note_lows(Charge(plan, cost, None), exceeded, levels)
                    if plan.slot_bit and held < plan.slots:
                        held += 1
                        lease_id = self._next_lease_id()
                        leases.add(lease_id)
                        if plan.max_hold_ms:
                            state.bound(lease_id, now_ms + plan.max_hold_ms)
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
        subject, plan, cost = checked_claim(subject, plan, cost)
        renew_if_forked()
        shard = self._shards[hash(subject) & _MASK]
        with shard.lock:
            now_ms = self._now_ms()
            state = shard.find(subject) or SubjectState.new(plan)
            state.end_overdue(now_ms)
            rate_levels = state.levels_under(plan)
            held = len(state.leases)
            exceeded, levels = preview(plan, rate_levels, held, cost, now_ms)
            state.note_refusal(plan, rate_levels, levels, now_ms)
        slot_wait_ms = self._hold_times.slot_wait_ms(plan) if exceeded & plan.slot_bit else 0
        return Decision(subject, plan, cost, now_ms, exceeded, levels, held, 0, None, slot_wait_ms)

    def acquire_joint(self, claim: JointClaim) -> Decision:
        if not SAME_PROCESS:
            renew_if_forked()
        shards = self._shards_of(claim.records)
        decision: Decision = self._locked(shards, 0, self._decide_jointly, claim)
        if decision.decided_at_ms >= self._sweep_at_ms:
            self._sweep(decision.decided_at_ms)
        return decision

    def _decide_jointly(self, claim: JointClaim) -> Decision:
        now_ms = self._now_ms()
        records, (_, scopes, _, charges, _, has_slots), _ = claim
        shards, states, held = self._shards, [], []
        for record, charge in zip(records, charges, strict=True):
            shard = shards[hash(record) & _MASK]
            state = shard.states.get(record) or self._load_state(shard, record, charge.plan)
            if state.bounds:
                state.end_overdue(now_ms)
            states.append(state)
            held.append(len(state.leases))
        refused, results = decide_records(claim, states, held, now_ms)
        if refused:
            refuse_records(claim, states, results, now_ms)
            return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), 0, None)
        for scope in scopes:
            if scope is not None and scope not in self._scopes:
                self._scopes[scope] = None
        claim_id = self._next_lease_id()
        charge_records(claim, states, results, claim_id, now_ms)
        holder = JointHolder(claim_id)
        if has_slots:
            self._take_slots(claim, states, held, holder, now_ms)
        lease_id = claim_id if holder.leases else 0
        return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), lease_id, holder)

    def _take_slots(
        self, claim: JointClaim, states: list[SubjectState], held: list[int], holder: JointHolder, now_ms: int
    ) -> None:
        for number, (charge, state) in enumerate(zip(claim.shape.charges, states, strict=True)):
            plan = charge.plan
            if plan.slot_bit and held[number] < plan.slots:
                held[number] += 1
                holder.leases.append(state.leases)
                state.leases.add(holder.claim_id)
                if plan.max_hold_ms:
                    state.bound(holder.claim_id, now_ms + plan.max_hold_ms)

    def peek_joint(self, claim: JointClaim) -> Decision:
        renew_if_forked()
        decision: Decision = self._locked(self._shards_of(claim.records), 0, self._peek_jointly, claim)
        return decision

    def _peek_jointly(self, claim: JointClaim) -> Decision:
        now_ms = self._now_ms()
        states = []
        for record, charge in zip(claim.records, claim.shape.charges, strict=True):
            state = self._shards[hash(record) & _MASK].find(record) or SubjectState.new(charge.plan)
            state.end_overdue(now_ms)
            states.append(state)
        held = [len(state.leases) for state in states]
        _, results = decide_records(claim, states, held, now_ms)
        refuse_records(claim, states, results, now_ms)
        return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), 0, None)

    def _shards_of(self, records: Sequence[Record]) -> list[Shard]:
        """The shards of these records, each once, in the order in which everybody locks them."""
        return [self._shards[number] for number in sorted({hash(record) & _MASK for record in records})]

    def _locked(self, shards: Sequence[Shard], first: int, act: Callable[..., Any], *args: Any) -> Any:
        """Call `act` under the locks of `shards` from number `first` on."""
        if first == len(shards):
            return act(*args)
        shard = shards[first]
        for taken in shard.attempts:
            if not taken:
                shard.wait()
                continue
            try:
                return self._locked(shards, first + 1, act, *args)
            finally:
                shard.lock.release()
        raise AssertionError

    def release(self, decision: Decision) -> None:
        lease_id, holder = decision[7], decision[8]
        if not lease_id:
            return
        each_leases = holder.leases if decision.__class__ is JointDecision else (holder,)
        measured = not lease_id & self._unmeasured and any(lease_id in leases for leases in each_leases)
        for leases in each_leases:
            leases.discard(lease_id)
        if measured:
            self._unmeasured |= self._hold_times.measure(decision, lease_id, self._now_ms)

    def refund(self, decision: Decision) -> None:
        self.settle(decision, NOTHING)

    def settle(self, decision: Decision, actual: ActualCost) -> None:
        if decision.holder is not None:
            renew_if_forked()
            charged = charges(decision)
            shards = self._shards_of([record for record, _, _ in charged])
            self._locked(shards, 0, self._settle, decision, actual, charged)

    def _settle(self, decision: Decision, actual: ActualCost, charged: list[tuple[Record, Charge, int]]) -> None:
        now_ms = self._now_ms()
        if not self._first_settlement(decision):
            return
        claim_id = decision.holder.claim_id if isinstance(decision, JointDecision) else 0
        for record, charge, exceeded in charged:
            shard = self._shards[hash(record) & _MASK]
            changes = corrections(charge, exceeded, actual)
            state = shard.find(record) or (shard.load(record, charge.plan) if changes else None)
            if state is not None:
                self._cut_off_tokens += state.settle(claim_id, decision.decided_at_ms, changes, now_ms)

    def _first_settlement(self, decision: Decision) -> bool:
        if isinstance(decision, JointDecision):
            first, decision.holder.settled = not decision.holder.settled, True
            return first
        return first_settlement(decision, self._shards[hash(decision.subject) & _MASK].find(decision.subject))

    def reset(self, subject: str, scope: str | None = None) -> None:
        """See Backend. Without a `scope` it also clears the buckets without one."""
        subject = checked_subject(subject)
        renew_if_forked()
        scopes = self._scopes.copy() if scope is None else (scope,)
        records: list[Record] = [ScopedSubject(subject, each) for each in scopes]
        for record in records if scope is not None else [subject, *records]:
            shard = self._shards[hash(record) & _MASK]
            with shard.lock:
                shard.forget(record)

    def health(self) -> Mapping[str, Any]:
        """See Backend. Counts the subjects in memory and the open leases."""
        renew_if_forked()
        subjects = leases = 0
        for shard in self._shards:
            with shard.lock:
                subjects += len(shard.states) + len(shard.packed)
                leases += sum(len(state.leases) for state in shard.states.values())
        counts = {"subjects": subjects, "leases": leases, "cut_off_tokens": self._cut_off_tokens}
        return {"state": "ok", "backend": "memory", **counts}

    def close(self) -> None:
        """See Backend. There is nothing to close."""

    def after_fork(self) -> None:
        """In a child process: replace the locks, and drop the parent's leases."""
        for shard in self._shards:
            shard.after_fork()
        if self._is_used:
            warn_about_workers()

    def used_by_limiter(self) -> None:
        """See WarnsOnUse. A GuardedBackend does not call it for its local fallback."""
        self._is_used = True
        warn_about_workers()

    def _load_state(self, shard: Shard, subject: Record, plan: Plan) -> SubjectState:
        if not subject:
            check_subject(subject)
        self._loaded_since_sweep += 1
        if self._loaded_since_sweep >= _SWEEP_AFTER_LOADS:
            self._sweep_at_ms = 0
        return shard.load(subject, plan)

    def _sweep(self, now_ms: int) -> None:
        """Do one step of the sweep: after every few new subjects, so that it keeps up, and every few milliseconds."""
        self._loaded_since_sweep = 0
        self._sweep_at_ms = now_ms + _SWEEP_INTERVAL_MS
        self._sweep_next = (self._sweep_next + 1) % _SHARDS
        shard = self._shards[self._sweep_next]
        # One attempt: if the shard is in use, sweep it another time, so that nobody waits for a sweep.
        for taken in shard.attempts:
            if taken:
                try:
                    shard.sweep(now_ms)
                finally:
                    shard.lock.release()
            break
