"""One token bucket in integers: what is owed at a moment, how long a claim must wait, when the debt is gone.

The state of a bucket is ``(debt, at_ms)``: what was owed, in the rate's units, at the time of its last charge. A debt
of nothing is the state of a new subject. All functions are exact: there is no rounding but the one up to a whole
millisecond, which makes a promised wait the first millisecond at which the claim fits.
"""

from awx_ratelimit.core.rate import Rate


def owed(rate: Rate, debt: int, at_ms: int, now_ms: int) -> tuple[int, int]:
    """What is owed at `now_ms`, and since when that is counted: the new ``(debt, at_ms)`` before any charge.

    While the clock stands behind `at_ms` by at most one period nothing drains. A clock further back is a clock that
    was set: the debt is kept and counted from now on, so that nobody waits longer than a period more.
    """
    if not debt:
        return 0, now_ms
    elapsed_ms = now_ms - at_ms
    if elapsed_ms < 0:
        return debt, at_ms if elapsed_ms >= -rate.period_ms else now_ms
    if rate.calendar:
        return 0 if now_ms // rate.period_ms > at_ms // rate.period_ms else debt, now_ms
    left = debt - rate.drain * elapsed_ms
    return left if left > 0 else 0, now_ms


def wait_ms(rate: Rate, debt: int, since_ms: int, now_ms: int, cost: int) -> int:
    """How long after `now_ms` a claim of `cost` fits, if nothing else is charged; 0 where it fits now."""
    excess = debt + cost * rate.unit - rate.capacity
    return time_to_drain_ms(rate, excess, since_ms, now_ms) if excess > 0 else 0


def time_to_drain_ms(rate: Rate, amount: int, since_ms: int, now_ms: int) -> int:
    """How long after `now_ms` the first `amount` units of what is owed are gone."""
    if amount <= 0:
        return 0
    if rate.calendar:
        return next_boundary_ms(rate, since_ms) - now_ms
    return -(-amount // rate.drain) + since_ms - now_ms


def next_boundary_ms(rate: Rate, since_ms: int) -> int:
    """When a calendar rate forgives: the first multiple of its period, counted from the epoch, after `since_ms`."""
    return (since_ms // rate.period_ms + 1) * rate.period_ms


def converted(rate: Rate, debt: int, unit: int) -> int:
    """`debt` counted in `unit` as this rate counts it: rounded up, never in the caller's favour, and at most full."""
    if unit != rate.unit:
        debt = -(-debt * rate.unit // unit)
    return debt if debt < rate.capacity else rate.capacity
