"""Never over: of what was surely decided within an interval, a rate admits at most its burst and what it regains.

A request that was sent and answered within [u, v] was decided there. So for every u and v, the cost of those admitted
within is at most ``burst + tokens * (v - u) / period``; of a calendar rate, ``tokens * (1 + boundaries)``. All pairs
are looked at, in the time of sorting them: a tree keeps, for each u, what is admitted since, and its top is the worst.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.observation import Observation

_NEVER = -(1 << 200)


@dataclass(frozen=True, slots=True)
class Tightest:
    """The interval in which a rate came nearest to its envelope, or furthest beyond it.

    `excess` is admitted cost above the allowed, times `unit`: positive exactly when the rate was broken.
    """

    from_us: int
    to_us: int
    admitted: int
    excess: int
    unit: int

    @property
    def allowed(self) -> float:
        """How much could have been admitted within."""
        return self.admitted - self.excess / self.unit


def tightest(admitted: Sequence[Observation], rate: Rate, *, tolerance_us: int, skew_us: int) -> Tightest | None:
    """The worst interval of one key's admitted requests; None without any. Equal to looking at every pair of times."""
    if not admitted:
        return None
    if rate.calendar:
        return _tightest_calendar(admitted, rate, skew_us)
    period_us = rate.period_ms * 1_000
    allowed = rate.burst * period_us + rate.tokens * tolerance_us
    by_answer = sorted(admitted, key=lambda one: one.answered_us)
    tree = _Since([one.sent_us for one in admitted], rate.tokens)
    worst, until_us = _NEVER, 0
    for one in by_answer:
        tree.add(one.sent_us, one.cost * period_us)
        excess = tree.most - rate.tokens * one.answered_us - allowed
        if excess > worst:
            worst, until_us = excess, one.answered_us
    from_us, cost = _begin(admitted, until_us, worst, rate, allowed)
    return Tightest(from_us, until_us, cost, worst, period_us)


class _Since:
    """For each time of sending u: what was added at u or later, plus ``slope * u``. `most` is the largest of them."""

    def __init__(self, times_us: Sequence[int], slope: int) -> None:
        self._times_us = sorted(set(times_us))
        self._slope = slope
        self._width = 1 << (len(self._times_us) - 1).bit_length()
        self._sums = [0] * (2 * self._width)
        self._bests = [_NEVER] * (2 * self._width)

    @property
    def most(self) -> int:
        return self._bests[1]

    def add(self, time_us: int, weight: int) -> None:
        node = self._width + bisect_left(self._times_us, time_us)
        self._sums[node] += weight
        self._bests[node] = self._slope * time_us + self._sums[node]
        while node > 1:
            node //= 2
            left, right = 2 * node, 2 * node + 1
            self._sums[node] = self._sums[left] + self._sums[right]
            self._bests[node] = max(self._bests[left] + self._sums[right], self._bests[right])


def _begin(admitted: Sequence[Observation], until_us: int, worst: int, rate: Rate, allowed: int) -> tuple[int, int]:
    """Where the interval begins whose excess until `until_us` is `worst`, and the cost admitted in it."""
    cost = 0
    within = [one for one in admitted if one.answered_us <= until_us]
    for one in sorted(within, key=lambda one: -one.sent_us):
        cost += one.cost
        excess = cost * rate.period_ms * 1_000 - rate.tokens * (until_us - one.sent_us) - allowed
        if excess == worst:
            return one.sent_us, cost
    raise AssertionError("the tree and the list differ")


def _tightest_calendar(admitted: Sequence[Observation], rate: Rate, skew_us: int) -> Tightest:
    """Intervals that lie between two boundaries, each of which may be `skew_us` off."""
    period_us = rate.period_ms * 1_000
    first = min(one.sent_us for one in admitted) // period_us
    last = max(one.answered_us for one in admitted) // period_us
    found = [
        _between(admitted, begin, end, rate.tokens, period_us, skew_us)
        for begin in range(first, last + 1)
        for end in range(begin, last + 1)
    ]
    return max(found, key=lambda one: one.excess)


def _between(
    admitted: Sequence[Observation], begin: int, end: int, tokens: int, period_us: int, skew_us: int
) -> Tightest:
    """Periods `begin` to `end`. Where the clocks differ, what is near an edge may be of the next period."""
    from_us, to_us = begin * period_us + skew_us, (end + 1) * period_us - skew_us
    cost = sum(one.cost for one in admitted if one.sent_us >= from_us and one.answered_us <= to_us)
    return Tightest(from_us, to_us, cost, cost - tokens * (1 + end - begin), 1)
