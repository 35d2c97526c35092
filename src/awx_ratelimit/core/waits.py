"""What a claim finds that stands behind others: a peek of it, as if those ahead had been admitted already."""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias

from awx_ratelimit.core.bucket import drained, next_boundary_ms, wait_ms
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision, JointDecision, joint_decision
from awx_ratelimit.core.hold_times import MIN_SLOT_WAIT_MS
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.core.usage import RecordState

#: A record and the name of one of its limits.
Bucket: TypeAlias = tuple[Record, str]


def enforced_buckets(records: Sequence[Record], charges: Sequence[Charge]) -> dict[Bucket, int]:
    """The buckets that can refuse a claim, with the tokens that it asks of each; 1 for a slot."""
    buckets: dict[Bucket, int] = {}
    for record, charge in zip(records, charges, strict=True):
        enforced = charge.plan.enforced
        for index, bit, rate in charge.plan.numbered_rates:
            tokens = charge.tokens(index // 2)
            if tokens and enforced & bit:
                buckets[record, rate.name] = tokens
        if enforced & charge.plan.slot_bit:
            buckets[record, CONCURRENT] = 1
    return buckets


def longest_wait(refusal: Decision) -> Bucket:
    """The bucket that refused `refusal` for the longest time."""
    waits: list[tuple[int, Bucket]] = []
    for record, charge, (exceeded, levels, _, slot_wait_ms) in _parts(refusal):
        refused = exceeded & charge.plan.enforced
        for index, bit, rate in charge.plan.numbered_rates:
            if refused & bit:
                debt, since_ms = levels[index : index + 2]
                wait = wait_ms(rate, debt, since_ms, refusal.decided_at_ms, charge.tokens(index // 2))
                waits.append((wait, (record, rate.name)))
        if refused & charge.plan.slot_bit:
            waits.append((slot_wait_ms, (record, CONCURRENT)))
    return max(waits, key=itemgetter(0))[1]


def behind(seen: Decision, ahead: Mapping[Bucket, Sequence[int]], longest_ms: int) -> Decision:
    """What `seen`, a peek, would be if claims of these tokens had been admitted before, each as early as possible.

    Its wait is that of the claim, with no other traffic. One above `longest_ms` may be any that is above it. The wait
    for a slot is the usual estimate, whatever is ahead.
    """
    states = [
        _state_behind(record, charge, state, seen.decided_at_ms, ahead, longest_ms)
        for record, charge, state in _parts(seen)
    ]
    if isinstance(seen, JointDecision):
        return joint_decision(seen.joint_claim, seen.decided_at_ms, states, 0, None)
    ((exceeded, levels, held, slot_wait_ms),) = states
    return seen._replace(exceeded=exceeded, levels=levels, held=held, slot_wait_ms=slot_wait_ms)


def _parts(decision: Decision) -> Iterator[tuple[Record, Charge, RecordState]]:
    if isinstance(decision, JointDecision):
        records, shape, _ = decision.joint_claim
        yield from zip(records, shape.charges, decision.states, strict=True)
    else:
        state = decision.exceeded, decision.levels, decision.held, decision.slot_wait_ms
        yield decision.subject, Charge(decision.plan, decision.cost, None), state


def _state_behind(
    record: Record,
    charge: Charge,
    state: RecordState,
    now_ms: int,
    ahead: Mapping[Bucket, Sequence[int]],
    longest_ms: int,
) -> RecordState:
    exceeded, levels, held, slot_wait_ms = state
    levels, plan = [*levels], charge.plan
    for index, bit, rate in plan.numbered_rates:
        tokens, others = charge.tokens(index // 2), ahead.get((record, rate.name))
        if tokens and others and plan.enforced & bit:
            reserve = _reserve_by_period if rate.calendar else _reserve
            asked, until_ms = (*others, tokens), now_ms + longest_ms
            debt, since_ms = drained(rate, levels[index], levels[index + 1], now_ms)
            levels[index : index + 2] = reserve(rate, debt, since_ms, asked, until_ms)
            if levels[index] + tokens * rate.unit > rate.capacity:
                exceeded |= bit
    slots_ahead = len(ahead.get((record, CONCURRENT), ()))
    if slots_ahead and plan.enforced & plan.slot_bit:
        held += slots_ahead
        if held >= plan.slots:
            exceeded, slot_wait_ms = exceeded | plan.slot_bit, max(slot_wait_ms, MIN_SLOT_WAIT_MS)
    return exceeded, levels, held, slot_wait_ms


def _reserve(rate: Rate, debt: int, since_ms: int, asked: Sequence[int], _until_ms: int) -> tuple[int, int]:
    """The state of a bucket for the last claim that asks, after all others."""
    return debt + sum(asked[:-1]) * rate.unit, since_ms


def _reserve_by_period(rate: Rate, debt: int, since_ms: int, asked: Sequence[int], until_ms: int) -> tuple[int, int]:
    """Each period has room for some of the claims, in their order. The last one waits for the end of a full period."""
    room, full_since_ms = max(0, rate.capacity - debt) // rate.unit, None
    for tokens in asked:
        if tokens > room:
            full_since_ms, since_ms, room = since_ms, next_boundary_ms(rate, since_ms), rate.burst
            if since_ms > until_ms:
                break
        room -= tokens
    if full_since_ms is not None:
        return rate.capacity, full_since_ms
    return rate.capacity - (room + asked[-1]) * rate.unit, since_ms
