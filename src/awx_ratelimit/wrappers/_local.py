"""What one of several processes may let through by itself, while they cannot decide together.

Of W processes each gets a W-th of every limit, rounded up, so that together they pass what the limits say by one token
each. The burst holds at least the largest claim, or that could never be allowed; it is never more than the limit's own.
"""

from functools import lru_cache

from awx_ratelimit.core.plans import Plan
from awx_ratelimit.core.rates import Concurrency, Rate
from awx_ratelimit.errors import InvalidLimit

_PLANS_CACHED = 4096


@lru_cache(_PLANS_CACHED)
def local_plan(plan: Plan, workers: int, cost: int) -> Plan:
    """The share of `plan` of one process of `workers`, for claims of up to `cost` tokens."""
    slots = plan.concurrency
    share = Plan(
        plan.name,
        tuple(_rate(rate, workers, cost) for rate in plan.rates),
        slots and Concurrency(max(1, slots.slots // workers), slots.ttl_ms, slots.max_hold_ms, slots.shadow),
        plan.shadow,
    )
    share.memo["share of"] = plan
    return share


def shared_plan(share: Plan) -> Plan | None:
    """The plan that `share` is a share of; None for any other plan."""
    plan: Plan | None = share.memo.get("share of")
    return plan


def _rate(rate: Rate, workers: int, cost: int) -> Rate:
    burst = min(rate.burst, max(cost, -(-rate.burst // workers)))
    if rate.calendar:
        # Its burst is its tokens.
        return Rate(rate.name, burst, rate.period_ms, refill="calendar", shadow=rate.shadow)
    try:
        return Rate(rate.name, rate.tokens, rate.period_ms * workers, burst, shadow=rate.shadow)
    except InvalidLimit:
        # Too large to be counted exactly: rounded up.
        return Rate(rate.name, -(-rate.tokens // workers), rate.period_ms, burst, shadow=rate.shadow)
