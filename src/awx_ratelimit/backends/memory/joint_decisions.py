"""Decides, charges and settles claims on the states of their records. The caller holds the locks of all of them."""

from collections.abc import Iterable, Sequence
from typing import Final

from awx_ratelimit.backends.memory.leases import Leases
from awx_ratelimit.backends.memory.subject_state import SubjectState
from awx_ratelimit.core.decide import charge_pair, decide, decide_by_rate, uncharge
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.usage import RecordState

#: See "Creating tuples" in docs/hot-path.md.
_new: Final = tuple.__new__


def charge_plainly(
    claim: JointClaim, states: Sequence[SubjectState | None], no_leases: Leases, claim_id: int, now_ms: int
) -> JointDecision | None:
    """Decide and charge in one pass, if every limit has room and no state needs more than new levels and a lease.

    Otherwise it returns None, and nothing is changed. `no_leases` is in the holder of a claim that takes no slot. See
    "Several budgets" in docs/hot-path.md.
    """
    records, shape, declared = claim
    charges = shape.plain_charges
    if charges is None or declared:
        return None
    undo: list[tuple[SubjectState, list[int]]] = []
    leased: list[Leases] = []
    found = []
    try:
        for state, (plan, layout, cost, pair, slots, slot_bit) in zip(states, charges):  # noqa: B905
            if state is None or state.layout is not layout or state.is_watched:
                break
            before, leases = state.levels, state.leases
            held = len(leases)
            levels = charge_pair(pair, before, now_ms) if pair is not None and held < slots else None
            if levels is None:
                exceeded, levels = decide(plan, before, held, cost, now_ms)
                if exceeded:
                    break
            undo.append((state, before))
            state.levels = levels
            if slot_bit:
                held += 1
                leased.append(leases)
                leases.add(claim_id)
            found.append((0, levels, held, 0))
        else:
            record, (_, levels, held, _) = records[0], found[0]
            return _new(
                JointDecision,
                (
                    record if type(record) is str else record[0], shape.plans[0], shape.cost, now_ms, 0, levels, held,
                    claim_id if leased else 0, tuple(leased) or (no_leases,), 0, claim, found,
                ),
            )  # fmt: skip
    except BaseException:
        uncharge_plainly(undo, leased, claim_id)
        raise
    uncharge_plainly(undo, leased, claim_id)
    return None


def uncharge_plainly(undo: Iterable[tuple[SubjectState, list[int]]], leased: Iterable[set[int]], claim_id: int) -> None:
    """Undo what `charge_plainly` has done so far."""
    for state, levels in undo:
        state.levels = levels
    for leases in leased:
        leases.discard(claim_id)


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
    """Charge every record. A declared claim is open from now on."""
    for charge, state, (exceeded, levels) in zip(claim.shape.charges, states, results, strict=True):
        if state.layout is charge.plan.layout:
            state.levels = levels
        else:
            state.store_charged(charge.plan, levels, charge.costs)
        if state.open is not None:
            state.note_lows(charge, exceeded, levels)
        if claim.declared:
            state.declare(claim_id, charge, exceeded, levels, now_ms)


def found(
    claim: JointClaim, results: Sequence[tuple[int, list[int]]], held: Sequence[int], hold_times: HoldTimes
) -> list[RecordState]:
    """What a decision found in each record."""
    return [
        (exceeded, levels, in_use, hold_times.slot_wait_ms(charge.plan) if exceeded & charge.plan.slot_bit else 0)
        for charge, (exceeded, levels), in_use in zip(claim.shape.charges, results, held, strict=True)
    ]


def take_slots(
    claim: JointClaim,
    states: Sequence[SubjectState],
    held: list[int],
    claim_id: int,
    now_ms: int,
) -> list[Leases]:
    """Take the slots of an allowed claim, and return their sets."""
    leased = []
    for number, (charge, state) in enumerate(zip(claim.shape.charges, states, strict=True)):
        plan = charge.plan
        if plan.slot_bit and held[number] < plan.slots:
            held[number] += 1
            leased.append(state.leases)
            state.leases.add(claim_id)
            if plan.max_hold_ms:
                state.bound(claim_id, now_ms + plan.max_hold_ms)
    return leased


def is_settled(decision: Decision) -> bool:
    """Whether `mark_settled` has marked `decision`."""
    return len(decision.levels) % 2 == 1


def mark_settled(decision: Decision, states: Iterable[SubjectState]) -> None:
    """Mark a settled decision by an extra number in its levels, which none of `states` may share then."""
    levels = decision.levels
    for state in states:
        if state.levels is levels:
            state.levels = [*levels]
    if isinstance(levels, list):
        levels += (0,)
