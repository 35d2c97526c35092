"""`Usage`: the state of one limit after a decision, computed from the raw numbers that a decision keeps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from awx_ratelimit.core.bucket import drained, time_to_drain_ms, wait_ms
from awx_ratelimit.core.budget import Budget, scoped_name
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.rate import CONCURRENT

#: What a decision found in one record: the fields `exceeded`, `levels`, `held` and `slot_wait_ms` of a Decision.
RecordState: TypeAlias = tuple[int, Sequence[int], int, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """The state of one limit after a decision, in tokens for a rate and in slots for ``concurrent``.

    `retry_after_ms` is exact for rates and an estimate for slots. It is 0 if the limit did not refuse, and if no wait
    can help, because the cost is above the burst of a shadow limit.
    `reset_after_ms` is the time until the limit is full again. It is 0 for slots: their end is unknown.
    `limit` is the name with its scope, such as ``account.minute``. `scope` and `subject` belong to the budget; two
    usages are equal whatever their subjects.
    """

    limit: str
    capacity: int
    remaining: int
    retry_after_ms: int
    reset_after_ms: int
    refused: bool
    shadow: bool
    scope: str | None = field(default=None, compare=False)
    subject: str = field(default="", compare=False)


def are_full(usages: Iterable[Usage]) -> bool:
    """Whether there are limits, and nothing of them is used: there were no requests, or all has refilled since."""
    found = list(usages)
    return bool(found) and all(one.remaining == one.capacity for one in found)


def usages_of(budget: Budget, rates: range, charge: Charge, state: RecordState, now_ms: int) -> list[Usage]:
    """The usages of a budget, whose rates have the numbers `rates` in the plan of its record."""
    exceeded, levels, held, slot_wait_ms = state
    scope, subject, plan = budget.scope, budget.subject, budget.plan
    usages = []
    for number in rates:
        rate, debt, since_ms = charge.plan.rates[number], levels[2 * number], levels[2 * number + 1]
        cost = charge.tokens(number)
        if not cost:
            # The claim did not touch it, so its debt has not drained yet.
            debt, since_ms = drained(rate, debt, since_ms, now_ms)
        refused = bool(exceeded >> number & 1)
        usages.append(
            Usage(
                scoped_name(scope, rate.name),
                rate.burst,
                max(0, (rate.capacity - debt) // rate.unit),
                wait_ms(rate, debt, since_ms, now_ms, cost) if refused and cost and cost <= rate.burst else 0,
                time_to_drain_ms(rate, debt, since_ms, now_ms),
                refused,
                rate.shadow or plan.shadow,
                scope,
                subject,
            )
        )
    if plan.concurrency is not None:
        slots, refused = plan.concurrency.slots, bool(exceeded & charge.plan.slot_bit)
        wait, shadow = slot_wait_ms if refused else 0, plan.concurrency.shadow or plan.shadow
        name = scoped_name(scope, CONCURRENT)
        usages.append(Usage(name, slots, max(0, slots - held), wait, 0, refused, shadow, scope, subject))
    return usages
