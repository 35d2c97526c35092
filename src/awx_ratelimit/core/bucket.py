"""Token-bucket arithmetic in integers: the debt at a moment, the wait for a claim, the end of a debt.

The state of a bucket is ``(debt, at_ms)``: the debt in the rate's units at the time of the last charge. A new subject
has no debt. Everything is exact. Only waits are rounded, up to a whole millisecond, so that a promised wait ends in the
first millisecond in which the claim fits.
"""

from typing import Any

from awx_ratelimit.core.rate import EXACT_MAX, Rate


def product(left: Any, right: Any) -> Any:
    """`left` times `right`, for numbers of any size.

    While CPython multiplies large numbers, it runs signal handlers. mypyc multiplies ints in a way that takes an
    exception of such a handler for a lack of memory, and aborts. So compiled code multiplies only what is `Any`.
    """
    return left * right


def drained(rate: Rate, debt: int, at_ms: int, now_ms: int) -> tuple[int, int]:
    """The state ``(debt, at_ms)`` at `now_ms`, before any charge.

    While the clock is behind `at_ms` by at most one period, nothing drains. If it is further behind, somebody has set
    the clock: the debt stays and drains from now on, so that nobody waits more than one period longer.
    """
    if not debt:
        return 0, now_ms
    elapsed_ms = now_ms - at_ms
    if elapsed_ms < 0:
        return debt, at_ms if elapsed_ms >= -period_ms_at(rate, at_ms) else now_ms
    if rate.calendar:
        return 0 if now_ms >= next_boundary_ms(rate, at_ms) else debt, now_ms
    left: int = debt - product(rate.drain, elapsed_ms)
    return left if left > 0 else 0, now_ms


def wait_ms(rate: Rate, debt: int, since_ms: int, now_ms: int, cost: int) -> int:
    """How long after `now_ms` a claim of `cost` fits if nobody else charges the bucket. 0: it fits now."""
    excess: int = debt + product(cost, rate.unit) - rate.capacity
    return time_to_drain_ms(rate, excess, since_ms, now_ms) if excess > 0 else 0


def time_to_drain_ms(rate: Rate, amount: int, since_ms: int, now_ms: int) -> int:
    """How long after `now_ms` the first `amount` units of the debt have drained."""
    if amount <= 0:
        return 0
    if rate.calendar:
        return next_boundary_ms(rate, since_ms) - now_ms
    return -(-amount // rate.drain) + since_ms - now_ms


def next_boundary_ms(rate: Rate, since_ms: int) -> int:
    """When a calendar rate starts again: the end of the period that contains `since_ms`."""
    return rate.periods.bounds(since_ms)[1]


def period_ms_at(rate: Rate, at_ms: int) -> int:
    """The duration of the period of `rate` that contains `at_ms`."""
    if rate.period is None:
        return rate.period_ms
    start_ms, end_ms = rate.periods.bounds(at_ms)
    return end_ms - start_ms


def convert_debt(rate: Rate, debt: int, unit: int, capacity: int) -> int:
    """Convert `debt`, counted with `unit` and `capacity`, to `rate`.

    Where they differ from those of `rate`, the debt is rounded up, against the caller, and is at most the capacity of
    `rate`. Where they do not, it is unchanged: an overdraft stays.
    """
    if unit == rate.unit and capacity == rate.capacity:
        return debt
    debt = -(product(-debt, rate.unit) // unit)
    return debt if debt < rate.capacity else rate.capacity


def max_debt(rate: Rate) -> int:
    """The largest debt that settling can leave: twice the capacity, and at most what is counted exactly."""
    twice: int = product(2, rate.capacity)
    return min(twice, EXACT_MAX)
