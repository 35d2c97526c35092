"""The parts of a JointClaim whose records are in several slots of a cluster. See `claims` for how they are decided."""

from collections.abc import Callable, Sequence
from typing import Any

from awx_ratelimit.backends.remote.grants import PartGrant
from awx_ratelimit.backends.remote.leases import Leases
from awx_ratelimit.backends.remote.pending_claims import PendingJoint
from awx_ratelimit.backends.remote.settlements import Settlements
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision, JointDecision, joint_decision
from awx_ratelimit.core.joint_claim import JointClaim, Shape
from awx_ratelimit.core.usage import RecordState


class Parts:
    """`slot` returns the slot of a record."""

    def __init__(self, leases: Leases, slot: Callable[[Record], int], settlements: Settlements) -> None:
        self._leases = leases
        self._slot = slot
        self._settlements = settlements

    def of(self, claim: JointClaim, lease_id: int) -> list[PendingJoint]:
        """One part for each slot, in the order in which everybody charges them.

        All but the last are declared, so that they can be given back exactly.
        """
        slots = sorted({self._slot(record) for record in claim.records})
        parts = [self._part(claim, slot, declared=claim.declared or slot != slots[-1]) for slot in slots]
        return [PendingJoint(part.records[0], part, (), lease_id, is_part=True) for part in parts]

    def _part(self, claim: JointClaim, slot: int, *, declared: bool) -> JointClaim:
        pairs = [pair for pair in zip(claim.records, claim.shape.charges, strict=True) if self._slot(pair[0]) == slot]
        charged = tuple(charge for _, charge in pairs)
        plans = tuple(charge.plan for charge in charged)
        has_slots = any(plan.slot_bit for plan in plans)
        shape = Shape(plans, (None,) * len(plans), claim.shape.cost, charged, (), has_slots)
        return JointClaim(tuple(record for record, _ in pairs), shape, declared)

    def joined(
        self, claim: JointClaim, parts: Sequence[PendingJoint], decisions: Sequence[Any], at: Decision
    ) -> Decision:
        """The refusal, or the peek, that the decisions of the parts make. It has the time of `at`."""
        return joint_decision(claim, at.decided_at_ms, _states(claim, parts, decisions), 0, None)

    def granted(
        self, claim: JointClaim, parts: Sequence[PendingJoint], decisions: Sequence[JointDecision], lease_id: int
    ) -> Decision:
        """The allowed decision of all parts. Their slots are one open lease."""
        slots = tuple(slot for decision in decisions for slot in decision.holder.slots)
        now_ms = max(decision.decided_at_ms for decision in decisions)
        lease_id_or_0 = lease_id if slots else 0
        holder = self._leases.grant(slots, now_ms, lease_id_or_0, lease_id if claim.declared else 0)
        if not claim.declared:
            for decision in decisions[:-1]:
                self._settlements.close_later(decision)
        return joint_decision(claim, now_ms, _states(claim, parts, decisions), lease_id_or_0, holder)

    def release(self, decision: JointDecision) -> None:
        """Release the slots of a charged part."""
        assert isinstance(decision.holder, PartGrant)
        self._leases.release_slots(decision.holder.slots, decision.lease_id)


def _states(claim: JointClaim, parts: Sequence[PendingJoint], decisions: Sequence[Any]) -> list[RecordState]:
    """What the decisions found in each record, in the order of the claim."""
    found: dict[Record, RecordState] = {}
    for part, decision in zip(parts, decisions, strict=True):
        found.update(zip(part.claim.records, decision.states, strict=True))
    return [found[record] for record in claim.records]
