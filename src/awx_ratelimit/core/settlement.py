"""Settling: the cost of a claim is known afterwards, and the difference is charged or given back.

A refund is a settlement in which every charge turns out to be 0.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.rate import Rate

#: Tokens by measure. None: nothing of what was charged was used.
ActualCost = Mapping[str, int] | None
NOTHING: Final = None


class Correction(NamedTuple):
    """How much more or less than its charge a limit should have been charged, in tokens."""

    rate: Rate
    tokens: int


def charges(decision: Decision) -> list[tuple[Record, Charge, int]]:
    """What `decision` charged: each record, what it asked of it, and the limits that were exceeded."""
    if isinstance(decision, JointDecision):
        claim = decision.joint_claim
        exceeded = [state[0] for state in decision.states]
        return [*zip(claim.records, claim.shape.charges, exceeded, strict=True)]
    return [(decision.subject, Charge(decision.plan, decision.cost, None), decision.exceeded)]


def corrections(charge: Charge, exceeded: int, actual: ActualCost) -> list[Correction]:
    """The limits whose charge changes. A shadow limit that would have refused is not charged afterwards either."""
    found = []
    for index, bit, rate in charge.plan.numbered_rates:
        charged = charge.tokens(index // 2)
        tokens = 0 if actual is None else actual.get(rate.measure, charged)
        if tokens != charged and not exceeded & bit:
            found.append(Correction(rate, tokens - charged))
    return found


def unfilled(rate: Rate, tokens: int, decided_at_ms: int, now_ms: int) -> int:
    """Of `tokens` charged at `decided_at_ms`, what has not refilled by `now_ms`, in units of debt.

    It is never more than the lowest debt since the charge.
    """
    if rate.calendar:
        return tokens * rate.unit if now_ms < rate.periods.bounds(decided_at_ms)[1] else 0
    return max(0, tokens * rate.unit - rate.drain * max(0, now_ms - decided_at_ms))
