"""Decides a JointClaim on the states of its records. The caller holds the locks of all of them."""

from collections.abc import Sequence

from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.core.decide import decide, decide_by_rate, uncharge
from awx_ratelimit.core.decision import HoldTimes, RecordState
from awx_ratelimit.core.joint_claim import JointClaim


class JointHolder:
    """What a backend must know of an allowed JointClaim: its id, its leases, and whether it is settled."""

    __slots__ = ("claim_id", "leases", "settled")

    def __init__(self, claim_id: int) -> None:
        self.claim_id = claim_id
        #: The sets of open leases in which the claim has taken a slot.
        self.leases: list[set[int]] = []
        self.settled = False


def decide_records(
    claim: JointClaim, states: Sequence[SubjectState], held: Sequence[int], now_ms: int
) -> tuple[bool, list[tuple[int, list[int]]]]:
    """Whether a limit refuses, and the result of `decide` for each record. Changes nothing."""
    refused, results = False, []
    for (plan, cost, costs), state, in_use in zip(claim.shape.charges, states, held, strict=True):
        before = state.levels if state.layout is plan.layout else state.levels_under(plan)
        if costs is None:
            result = decide(plan, before, in_use, cost, now_ms)
        else:
            result = decide_by_rate(plan, before, in_use, costs, now_ms)
        if result[0] and result[0] & plan.enforced:
            refused = True
        results.append(result)
    return refused, results


def refuse_records(
    claim: JointClaim, states: Sequence[SubjectState], results: Sequence[tuple[int, list[int]]], now_ms: int
) -> None:
    """Take all charges out of `results`: a limit has refused, or the claim only looks."""
    for charge, state, (exceeded, levels) in zip(claim.shape.charges, states, results, strict=True):
        if not exceeded & charge.plan.enforced:
            uncharge(charge, levels, exceeded)
        state.note_refusal(charge.plan, state.levels_under(charge.plan), levels, now_ms)


def charge_records(
    claim: JointClaim,
    states: Sequence[SubjectState],
    results: Sequence[tuple[int, list[int]]],
    claim_id: int,
    now_ms: int,
) -> None:
    """Charge every record, or none if an exception interrupts it. A declared claim is open from now on."""
    saved = [(state.layout, state.levels, state.kept) for state in states]
    try:
        for charge, state, (exceeded, levels) in zip(claim.shape.charges, states, results, strict=True):
            if state.layout is charge.plan.layout:
                state.levels = levels
            else:
                state.store_charged(charge.plan, levels, charge.costs)
            if state.open is not None:
                state.note_lows(charge, exceeded, levels)
            if claim.declared:
                state.declare(claim_id, charge, exceeded, levels, now_ms)
    except BaseException:
        for state, (state.layout, state.levels, state.kept) in zip(states, saved, strict=True):
            state.close_claim(claim_id)
        raise


def found(
    claim: JointClaim, results: Sequence[tuple[int, list[int]]], held: Sequence[int], hold_times: HoldTimes
) -> list[RecordState]:
    """What a decision found in each record."""
    return [
        (exceeded, levels, in_use, hold_times.slot_wait_ms(charge.plan) if exceeded & charge.plan.slot_bit else 0)
        for charge, (exceeded, levels), in_use in zip(claim.shape.charges, results, held, strict=True)
    ]
