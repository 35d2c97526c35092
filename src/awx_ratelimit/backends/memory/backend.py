"""`MemoryBackend`: limits in the memory of one process.

Subjects are spread over shards. Each shard has a lock, held only for the arithmetic. `release` takes no lock (see
`SubjectState`), so it is safe in finalizers, signal handlers and cancelled tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Never

from awx_ratelimit.backends.memory.joint_decisions import (
    charge_plainly,
    charge_records,
    decide_records,
    declared_id,
    found,
    joint_holder,
    refuse_records,
    uncharge_plainly,
)
from awx_ratelimit.backends.memory.shard import NO_SHARD, Shard
from awx_ratelimit.backends.memory.subject_state import SubjectState, first_settlement
from awx_ratelimit.backends.memory.worker_warning import warn_about_workers
from awx_ratelimit.backends.validation import checked_clock
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.claim import check_plan, check_subject, checked_claim, checked_subject
from awx_ratelimit.core.decide import charge_pair, decide, preview
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
#: The key's, the account's and the service's. Claims with another number of records take a general path.
_USUAL_BUDGETS = 3


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
        #: The clock that this backend was given; claims that wait use it, too, if it is one for tests.
        self.clock = SystemClock() if clock is None else checked_clock(clock)
        self._now_ms = self.clock.now_ms
        self._shards = [Shard() for _ in range(_SHARDS)]
        self._next_lease_id = count(1).__next__
        self._hold_times = HoldTimes()
        self._unmeasured = 0
        self._loaded_since_sweep = 0
        self._sweep_at_ms = 0
        self._sweep_next = 0
        self._scopes: dict[str, None] = {}
        self._cut_off_tokens = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:  # noqa: C901, PLR0912, PLR0915  # docs/hot-path.md
        # The other mistakes raise AttributeError below, before anything is changed.
        if type(subject) is not str or cost is not _ONE or not SAME_PROCESS:
            subject, plan, cost = checked_claim(subject, plan, cost)
            renew_if_forked()
        shard = self._shards[hash(subject) & _MASK]
        lock = shard.lock
        holder: set[int] | None = None
        levels: list[int] | None = None
        lease_id = 0
        for taken in shard.attempts:
            if not taken:
                shard.wait()
                continue
            try:
                now_ms = self._now_ms()
                state = shard.states.get(subject) or self._load_state(shard, subject, plan)
                watched = state.is_watched
                if watched:
                    state.end_overdue(now_ms)
                same = state.layout is plan.layout
                rate_levels = state.levels if same else state.levels_under(plan)
                leases = state.leases
                held = len(leases)
                pair = plan.pair
                if pair is not None and cost is _ONE and held < plan.slots:
                    levels = charge_pair(pair, rate_levels, now_ms)
                exceeded = 0
                if levels is None:
                    exceeded, levels = decide(plan, rate_levels, held, cost, now_ms)
                if exceeded and exceeded & plan.enforced:
                    state.note_refusal(plan, rate_levels, levels, now_ms)
                else:
                    holder = leases
                    if same:
                        state.levels = levels
                    else:
                        state.store_charged(plan, levels)
                    if watched and state.open is not None:
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

    def acquire_joint(self, claim: JointClaim) -> Decision:  # noqa: C901, PLR0912, PLR0915  # see docs/hot-path.md
        if not SAME_PROCESS:
            renew_if_forked()
        records, shape, declared = claim
        charges = shape.plain_charges
        if len(records) != _USUAL_BUDGETS or charges is None or declared:
            return self._acquire_two(claim) if len(records) == 2 else self._acquire_several(claim)
        record, record_2, record_3 = records
        (
            (plan, layout, cost, pair, slots, bit),
            (plan_2, layout_2, _, pair_2, slots_2, bit_2),
            (plan_3, layout_3, _, pair_3, slots_3, bit_3),
        ) = charges
        shards = self._shards
        first, second, third = hash(record) & _MASK, hash(record_2) & _MASK, hash(record_3) & _MASK
        shard, shard_2, shard_3 = shards[first], shards[second], shards[third]
        # Everybody locks shards in this order, each once.
        if first > second:
            first, second = second, first
        if second > third:
            second, third = third, second
            if first > second:
                first, second = second, first
        lowest, middle, highest = shards[first], shards[second], shards[third]
        if middle is lowest:
            middle = NO_SHARD
        if highest is middle or third == second:
            highest = NO_SHARD
        decision: Any = None
        for taken in lowest.attempts:
            if not taken:
                lowest.wait()
                continue
            try:
                for taken_too in middle.attempts:
                    if not taken_too:
                        middle.wait()
                        continue
                    try:
                        for all_taken in highest.attempts:
                            if not all_taken:
                                highest.wait()
                                continue
                            try:
                                now_ms = self._now_ms()
                                state, state_2 = shard.states.get(record), shard_2.states.get(record_2)
                                state_3 = shard_3.states.get(record_3)
                                if (
                                    state is not None
                                    and state_2 is not None
                                    and state_3 is not None
                                    and state.layout is layout
                                    and state_2.layout is layout_2
                                    and state_3.layout is layout_3
                                    and not (state.is_watched or state_2.is_watched or state_3.is_watched)
                                ):
                                    before, before_2, before_3 = state.levels, state_2.levels, state_3.levels
                                    leases, leases_2, leases_3 = state.leases, state_2.leases, state_3.leases
                                    held, held_2, held_3 = len(leases), len(leases_2), len(leases_3)
                                    exceeded = 0
                                    levels: Any = None
                                    levels_2: Any = None
                                    levels_3: Any = None
                                    if pair is not None and held < slots:
                                        levels = charge_pair(pair, before, now_ms)
                                    if levels is None:
                                        exceeded, levels = decide(plan, before, held, cost, now_ms)
                                    if pair_2 is not None and held_2 < slots_2:
                                        levels_2 = charge_pair(pair_2, before_2, now_ms)
                                    if levels_2 is None and not exceeded:
                                        exceeded, levels_2 = decide(plan_2, before_2, held_2, cost, now_ms)
                                    if pair_3 is not None and held_3 < slots_3:
                                        levels_3 = charge_pair(pair_3, before_3, now_ms)
                                    if levels_3 is None and not exceeded:
                                        exceeded, levels_3 = decide(plan_3, before_3, held_3, cost, now_ms)
                                    if not exceeded:
                                        lease_id = self._next_lease_id()
                                        leased: tuple[set[int], ...]
                                        try:
                                            state.levels, state_2.levels, state_3.levels = levels, levels_2, levels_3
                                            if bit and bit_2 and bit_3:
                                                leased = leases, leases_2, leases_3
                                                held, held_2, held_3 = held + 1, held_2 + 1, held_3 + 1
                                                leases.add(lease_id)
                                                leases_2.add(lease_id)
                                                leases_3.add(lease_id)
                                            else:
                                                leased = ()
                                                if bit:
                                                    leased, held = (leases,), held + 1
                                                    leases.add(lease_id)
                                                if bit_2:
                                                    leased, held_2 = (*leased, leases_2), held_2 + 1
                                                    leases_2.add(lease_id)
                                                if bit_3:
                                                    leased, held_3 = (*leased, leases_3), held_3 + 1
                                                    leases_3.add(lease_id)
                                        except BaseException:
                                            undo = (state, before), (state_2, before_2), (state_3, before_3)
                                            uncharge_plainly(undo, (leases, leases_2, leases_3), lease_id)
                                            raise
                                        decision = _new(JointDecision, (
                                            record if type(record) is str else record[0], plan, shape.cost, now_ms, 0,
                                            levels, held, lease_id if leased else 0, leased, 0, claim,
                                            ((0, levels, held, 0), (0, levels_2, held_2, 0), (0, levels_3, held_3, 0)),
                                        ))  # fmt: skip
                                if decision is None:
                                    decision = self._decide_jointly(claim, (shard, shard_2, shard_3), now_ms)
                            finally:
                                highest.lock.release()
                            break
                    finally:
                        middle.lock.release()
                    break
            finally:
                lowest.lock.release()
            break
        if now_ms >= self._sweep_at_ms:
            self._sweep(now_ms)
        return decision  # type: ignore[no-any-return]

    def _acquire_two(self, claim: JointClaim) -> Decision:
        """`acquire_joint` for two records. See "Several budgets" in docs/hot-path.md."""
        record, record_2 = claim[0]
        first, second = hash(record) & _MASK, hash(record_2) & _MASK
        shard, shard_2 = self._shards[first], self._shards[second]
        lower, higher = (shard, shard_2) if first < second else (shard_2, shard)
        if first == second:
            higher = NO_SHARD
        for taken in lower.attempts:
            if not taken:
                lower.wait()
                continue
            try:
                for both_taken in higher.attempts:
                    if not both_taken:
                        higher.wait()
                        continue
                    try:
                        now_ms = self._now_ms()
                        states = shard.states.get(record), shard_2.states.get(record_2)
                        decision = charge_plainly(claim, states, self._next_lease_id(), now_ms)
                        if decision is None:
                            decision = self._decide_jointly(claim, (shard, shard_2), now_ms)
                    finally:
                        higher.lock.release()
                    break
            finally:
                lower.lock.release()
            break
        if now_ms >= self._sweep_at_ms:
            self._sweep(now_ms)
        return decision  # type: ignore[return-value]

    def _acquire_several(self, claim: JointClaim) -> Decision:
        """`acquire_joint` for any number of records and any cost."""
        shards = [self._shards[hash(record) & _MASK] for record in claim.records]
        decision: JointDecision = self._locked(self._shards_of(claim.records), 0, self._decide_any, claim, shards)
        if decision.decided_at_ms >= self._sweep_at_ms:
            self._sweep(decision.decided_at_ms)
        return decision

    def _decide_any(self, claim: JointClaim, shards: Sequence[Shard]) -> JointDecision:
        now_ms = self._now_ms()
        states = [shard.states.get(record) for shard, record in zip(shards, claim.records, strict=True)]
        decision = charge_plainly(claim, states, self._next_lease_id(), now_ms)
        return self._decide_jointly(claim, shards, now_ms) if decision is None else decision

    def _decide_jointly(self, claim: JointClaim, shards: Sequence[Shard], now_ms: int) -> JointDecision:
        """Decide a claim that `charge_plainly` did not."""
        records, shape, declared = claim
        parts = zip(records, shards, shape.charges, strict=True)
        states = [shard.states.get(record) or self._load(shard, record, charge.plan) for record, shard, charge in parts]
        claim_id = self._next_lease_id()
        held = []
        for state in states:
            if state.is_watched:
                state.end_overdue(now_ms)
            held.append(len(state.leases))
        refused, results = decide_records(claim, states, held, now_ms)
        if refused:
            refuse_records(claim, states, results, now_ms)
            return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), 0, None)
        charge_records(claim, states, results, claim_id, now_ms)
        leased: list[set[int]] = []
        if shape.has_slots:
            self._take_slots(claim, states, held, leased, claim_id, now_ms)
        states_found = found(claim, results, held, self._hold_times)
        return joint_decision(
            claim, now_ms, states_found, claim_id if leased else 0, joint_holder(leased, claim_id, declared=declared)
        )

    def _load(self, shard: Shard, record: Record, plan: Plan) -> SubjectState:
        if type(record) is ScopedSubject and record.scope not in self._scopes:
            self._scopes[record.scope] = None
        return self._load_state(shard, record, plan)

    def _take_slots(  # see docs/hot-path.md
        self,
        claim: JointClaim,
        states: list[SubjectState],
        held: list[int],
        leased: list[set[int]],
        claim_id: int,
        now_ms: int,
    ) -> None:
        for number, (charge, state) in enumerate(zip(claim.shape.charges, states, strict=True)):
            plan = charge.plan
            if plan.slot_bit and held[number] < plan.slots:
                held[number] += 1
                leased.append(state.leases)
                state.leases.add(claim_id)
                if plan.max_hold_ms:
                    state.bound(claim_id, now_ms + plan.max_hold_ms)

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
        lease_id = decision[7]
        if lease_id:
            holder = decision[8]
            if type(holder) is tuple:
                measured = not lease_id & self._unmeasured and lease_id in holder[0]
                for leases in holder:
                    leases.discard(lease_id)
            else:
                measured = not lease_id & self._unmeasured and lease_id in holder
                holder.discard(lease_id)
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
        first_record = charged[0][0]
        if not first_settlement(decision, self._shards[hash(first_record) & _MASK].find(first_record)):
            return
        claim_id = declared_id(decision.holder) if isinstance(decision, JointDecision) else 0
        for record, charge, exceeded in charged:
            shard = self._shards[hash(record) & _MASK]
            changes = corrections(charge, exceeded, actual)
            state = shard.find(record) or (shard.load(record, charge.plan) if changes else None)
            if state is not None:
                self._cut_off_tokens += state.settle(claim_id, decision.decided_at_ms, changes, now_ms)

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
