"""How long a claim waits behind equal ones: computed from a decision that charged nothing."""

from collections.abc import Iterator

from awx_ratelimit.core.bucket import next_boundary_ms, wait_ms
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.usage import RecordState


def wait_behind_ms(seen: Decision, ahead: int, longest_ms: int) -> int:
    """When a claim fits that `ahead` equal claims go before, in milliseconds after `seen`, with no other traffic.

    `seen` is a refusal or a peek of this claim. A wait above `longest_ms` may be any number above it. The wait for a
    slot is the estimate of `seen`, whatever is ahead.
    """
    longest = 0
    for charge, (exceeded, levels, _, slot_wait_ms) in _records(seen):
        enforced = charge.plan.enforced
        if exceeded & enforced & charge.plan.slot_bit:
            longest = max(longest, slot_wait_ms)
        for index, bit, rate in charge.plan.numbered_rates:
            tokens = charge.tokens(index // 2)
            if tokens and enforced & bit:
                debt, since_ms = levels[index], levels[index + 1]
                wait = _calendar_wait_ms if rate.calendar else _continuous_wait_ms
                longest = max(longest, wait(rate, (debt, since_ms), seen.decided_at_ms, tokens, ahead, longest_ms))
    return longest


def lacks_slot(refusal: Decision) -> bool:
    """Whether a limit of slots refused, so that a release can end the wait early."""
    return any(exceeded & charge.plan.enforced & charge.plan.slot_bit for charge, (exceeded, *_) in _records(refusal))


def _records(decision: Decision) -> Iterator[tuple[Charge, RecordState]]:
    if isinstance(decision, JointDecision):
        yield from zip(decision.joint_claim.shape.charges, decision.states, strict=True)
    else:
        state = decision.exceeded, decision.levels, decision.held, decision.slot_wait_ms
        yield Charge(decision.plan, decision.cost, None), state


def _continuous_wait_ms(
    rate: Rate, state: tuple[int, int], now_ms: int, tokens: int, ahead: int, _longest_ms: int
) -> int:
    return wait_ms(rate, *state, now_ms, tokens * (ahead + 1))


def _calendar_wait_ms(rate: Rate, state: tuple[int, int], now_ms: int, tokens: int, ahead: int, longest_ms: int) -> int:
    """Each period has room for some of the claims; the last one waits for the period that it is in."""
    debt, since_ms = state
    left = ahead + 1 - max(0, rate.capacity - debt) // (tokens * rate.unit)
    at_ms = since_ms
    while left > 0:
        at_ms = next_boundary_ms(rate, at_ms)
        if at_ms - now_ms > longest_ms:
            break
        left -= rate.burst // tokens
    return max(0, at_ms - now_ms)
