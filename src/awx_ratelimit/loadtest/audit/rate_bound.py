"""Never over: the upper bound of what a rate may admit in any interval.

A request that was sent and answered within [u, v] was decided there. So for all u and v, the cost admitted within is at
most ``burst + tokens * (v - u) / period``; for a calendar rate, ``tokens * (1 + boundaries)``. This module checks all
pairs in O(n log n): a tree holds, for each u, the cost admitted since u, and its root is the worst interval.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.observation import Observation

_NEVER = -(1 << 200)


@dataclass(frozen=True, slots=True)
class TightestInterval:
    """The interval in which a rate came closest to its bound, or exceeded it most.

    `excess` is the admitted cost minus the allowed cost, times `unit`. It is positive exactly if the rate was exceeded.
    """

    from_us: int
    to_us: int
    admitted: int
    excess: int
    unit: int

    @property
    def allowed(self) -> float:
        """The cost that the rate allows in this interval."""
        return self.admitted - self.excess / self.unit


def tightest_interval(
    admitted: Sequence[Observation], rate: Rate, *, tolerance_us: int, skew_us: int
) -> TightestInterval | None:
    """The worst interval of one key's admitted requests, over every pair of times; None if there are no requests."""
    if not admitted:
        return None
    if rate.calendar:
        return _tightest_calendar_interval(admitted, rate, skew_us)
    period_us = rate.period_ms * 1_000
    allowed = rate.burst * period_us + rate.tokens * tolerance_us
    tree = _SuffixMaxTree([one.sent_us for one in admitted], rate.tokens)
    worst, until_us = _NEVER, 0
    for one in sorted(admitted, key=lambda one: one.answered_us):
        tree.add(one.sent_us, one.cost * period_us)
        excess = tree.max - rate.tokens * one.answered_us - allowed
        if excess > worst:
            worst, until_us = excess, one.answered_us
    from_us, cost = _interval_start(admitted, until_us, worst, rate, allowed)
    return TightestInterval(from_us, until_us, cost, worst, period_us)


class _SuffixMaxTree:
    """For each send time u: the weight added at u or later, plus ``slope * u``. `max` is the largest value."""

    def __init__(self, times_us: Sequence[int], slope: int) -> None:
        self._times_us = sorted(set(times_us))
        self._slope = slope
        self._width = 1 << (len(self._times_us) - 1).bit_length()
        self._sums = [0] * (2 * self._width)
        self._maxima = [_NEVER] * (2 * self._width)

    @property
    def max(self) -> int:
        return self._maxima[1]

    def add(self, time_us: int, weight: int) -> None:
        node = self._width + bisect_left(self._times_us, time_us)
        self._sums[node] += weight
        self._maxima[node] = self._slope * time_us + self._sums[node]
        while node > 1:
            node //= 2
            left, right = 2 * node, 2 * node + 1
            self._sums[node] = self._sums[left] + self._sums[right]
            self._maxima[node] = max(self._maxima[left] + self._sums[right], self._maxima[right])


def _interval_start(
    admitted: Sequence[Observation], until_us: int, worst: int, rate: Rate, allowed: int
) -> tuple[int, int]:
    """The start of the interval that ends at `until_us` with the excess `worst`, and the cost admitted in it."""
    cost = 0
    within = [one for one in admitted if one.answered_us <= until_us]
    for one in sorted(within, key=lambda one: -one.sent_us):
        cost += one.cost
        excess = cost * rate.period_ms * 1_000 - rate.tokens * (until_us - one.sent_us) - allowed
        if excess == worst:
            return one.sent_us, cost
    raise AssertionError("no interval has the excess that the tree found")


def period_edges_us(rate: Rate, from_us: int, to_us: int) -> list[int]:
    """The boundaries of a calendar rate, from the last one before `from_us` to the first one after `to_us`."""
    edges_us = [edge_ms * 1_000 for edge_ms in rate.periods.bounds(from_us // 1_000)]
    while edges_us[-1] <= to_us:
        edges_us.append(rate.periods.bounds(edges_us[-1] // 1_000)[1] * 1_000)
    return edges_us


def _tightest_calendar_interval(admitted: Sequence[Observation], rate: Rate, skew_us: int) -> TightestInterval:
    """The worst interval between two boundaries, each of which may be off by `skew_us`."""
    first_us, last_us = min(one.sent_us for one in admitted), max(one.answered_us for one in admitted)
    edges_us = period_edges_us(rate, first_us, last_us)
    intervals = [
        _calendar_interval(admitted, begin_us + skew_us, end_us - skew_us, rate.tokens * periods)
        for begin, begin_us in enumerate(edges_us)
        for periods, end_us in enumerate(edges_us[begin + 1 :], 1)
    ]
    return max(intervals, key=lambda one: one.excess)


def _calendar_interval(admitted: Sequence[Observation], from_us: int, to_us: int, allowed: int) -> TightestInterval:
    """Whole periods, without requests so close to an edge that they may belong to another period."""
    cost = sum(one.cost for one in admitted if one.sent_us >= from_us and one.answered_us <= to_us)
    return TightestInterval(from_us, to_us, cost, cost - allowed, 1)
