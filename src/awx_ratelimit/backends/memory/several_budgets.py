"""`SeveralBudgets`: decides claims of any number of budgets and any cost, on a general path."""

from collections.abc import Sequence
from typing import Any, Final

from awx_ratelimit.backends.memory.joint_decisions import (
    charge_plainly,
    charge_records,
    decide_records,
    found,
    refuse_records,
    take_slots,
)
from awx_ratelimit.backends.memory.leases import joint_holder
from awx_ratelimit.backends.memory.settling_memory import SettlingMemory
from awx_ratelimit.backends.memory.shard import Shard
from awx_ratelimit.backends.memory.sharded_memory import MASK, MAX_SCOPES
from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.backends.validation import check_joint_claim
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.decision import Decision, JointDecision, joint_decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import exact_ms
from awx_ratelimit.runtime.forks import renew_if_forked
from awx_ratelimit.runtime.mypyc import mypyc_attr

_MASK: Final = MASK


@mypyc_attr(allow_interpreted_subclasses=True)
class SeveralBudgets(SettlingMemory):
    """See the module."""

    def _acquire_several(self, claim: JointClaim) -> Decision:
        """`acquire_joint` for any number of records and any cost."""
        shards = [self._shards[hash(record) & _MASK] for record in claim.records]
        decided: list[JointDecision] = []
        try:
            self._locked(self._shards_of(claim.records), 0, self._decide_any, claim, shards, decided)
            if decided[0].decided_at_ms >= self._sweep_at_ms:
                self._sweep(decided[0].decided_at_ms)
        except BaseException:
            self._withdraw(*decided)
            raise
        return decided[0]

    def _decide_any(self, claim: JointClaim, shards: Sequence[Shard], decided: list[JointDecision]) -> None:
        now_ms = exact_ms(self._now_ms())
        states = [shard.states.get(record) for shard, record in zip(shards, claim.records, strict=True)]
        decision = charge_plainly(claim, states, self._no_leases, next(self._lease_ids), now_ms)
        decided.append(self._decide_jointly(claim, shards, now_ms) if decision is None else decision)

    def _decide_jointly(self, claim: JointClaim, shards: Sequence[Shard], now_ms: int) -> JointDecision:
        """Decide a claim that `charge_plainly` did not."""
        records, shape, _ = claim
        parts = zip(records, shards, shape.charges, strict=True)
        states = [shard.states.get(record) or self._load(shard, record, charge.plan) for record, shard, charge in parts]
        claim_id = next(self._lease_ids)
        held = []
        for state in states:
            if state.is_watched:
                state.end_overdue(now_ms)
            held.append(len(state.leases))
        refused, results = decide_records(claim, states, held, now_ms)
        if refused:
            refuse_records(claim, states, results, now_ms)
            return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), 0, None)
        saved = [state.saved() for state in states]
        try:
            charge_records(claim, states, results, claim_id, now_ms)
            leased = take_slots(claim, states, held, claim_id, now_ms) if shape.has_slots else []
            return joint_decision(
                claim,
                now_ms,
                found(claim, results, held, self._hold_times),
                claim_id if leased else 0,
                joint_holder(leased or (self._no_leases,), claim_id, declared=claim.declared),
            )
        except BaseException:
            for state, before in zip(states, saved, strict=True):
                state.undo(before, claim_id)
            raise

    def _load(self, shard: Shard, record: Record, plan: Plan) -> SubjectState:
        if type(record) is ScopedSubject and record.scope not in self._scopes and len(self._scopes) < MAX_SCOPES:
            self._scopes[record.scope] = None
        return self._load_state(shard, record, plan)

    def peek_joint(self, claim: Any) -> Decision:
        check_joint_claim(claim)
        renew_if_forked()
        decision: Decision = self._locked(self._shards_of(claim.records), 0, self._peek_jointly, claim)
        return decision

    def _peek_jointly(self, claim: JointClaim) -> Decision:
        now_ms = exact_ms(self._now_ms())
        states = []
        for record, charge in zip(claim.records, claim.shape.charges, strict=True):
            state = self._shards[hash(record) & _MASK].find(record) or SubjectState.new(charge.plan)
            state.end_overdue(now_ms)
            states.append(state)
        held = [len(state.leases) for state in states]
        _, results = decide_records(claim, states, held, now_ms)
        refuse_records(claim, states, results, now_ms)
        return joint_decision(claim, now_ms, found(claim, results, held, self._hold_times), 0, None)
