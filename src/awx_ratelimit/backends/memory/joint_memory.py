"""`JointMemory`: decides claims of several budgets. See "Several budgets" in docs/hot-path.md."""

from collections.abc import Sequence
from typing import Any

from awx_ratelimit.backends.memory.joint_decisions import (
    charge_plainly,
    charge_records,
    decide_records,
    found,
    joint_holder,
    refuse_records,
    take_slots,
    uncharge_plainly,
)
from awx_ratelimit.backends.memory.shard import NO_SHARD, Shard
from awx_ratelimit.backends.memory.sharded_memory import MASK, ShardedMemory
from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.decide import charge_pair, decide
from awx_ratelimit.core.decision import Decision, JointDecision, joint_decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.runtime.forks import SAME_PROCESS, renew_if_forked

_MASK = MASK
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__
#: The key's, the account's and the service's. Claims with another number of records take a general path.
_USUAL_BUDGETS = 3


class JointMemory(ShardedMemory):
    """The part of MemoryBackend that decides claims of several budgets."""

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
            take_slots(claim, states, held, leased, claim_id, now_ms)
        states_found = found(claim, results, held, self._hold_times)
        return joint_decision(
            claim, now_ms, states_found, claim_id if leased else 0, joint_holder(leased, claim_id, declared=declared)
        )

    def _load(self, shard: Shard, record: Record, plan: Plan) -> SubjectState:
        if type(record) is ScopedSubject and record.scope not in self._scopes:
            self._scopes[record.scope] = None
        return self._load_state(shard, record, plan)

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
