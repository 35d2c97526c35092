"""Curves over time from observations: admitted requests and their bound, latencies, slots. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome, admitted, in_flight
from awx_ratelimit.loadtest.report.results import PERCENTILES, percentile

#: A screen shows no more points than this.
_MAX_POINTS: Final = 600
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of (seconds since the first request, value). `stairs`: a value holds until the next point.

    Between points that are more than `gap_s` apart, the value is unknown and the curve is interrupted.
    """

    name: str
    points: Points
    stairs: bool = False
    bound: bool = False
    gap_s: float = 1e9


def admissions(observations: Sequence[Observation], rate: Rate, begin_us: int) -> list[Curve]:
    """The admitted cost so far, and its bound: the admitted cost plus the tokens that the bucket still has.

    If the gateway admitted too much, the bound is below the admitted cost.
    """
    total = 0
    level, at_us = 0.0, begin_us
    so_far, bound = [(0.0, 0.0)], [(0.0, float(rate.burst))]
    for one in sorted(admitted(observations), key=lambda one: one.answered_us):
        level = _drained(rate, level, at_us, one.answered_us) + one.cost
        at_us, total = one.answered_us, total + one.cost
        at_s = (at_us - begin_us) / SECOND_US
        so_far.append((at_s, total))
        bound.append((at_s, total + rate.burst - level))
    return [
        Curve("admitted", _thinned(so_far), stairs=True),
        Curve("at most", _thinned(bound), bound=True),
    ]


def _drained(rate: Rate, level: float, at_us: int, now_us: int) -> float:
    period_us = rate.period_ms * 1_000
    if rate.calendar:
        return 0.0 if now_us // period_us > at_us // period_us else level
    return max(0.0, level - rate.tokens * (now_us - at_us) / period_us)


def outcome_counts(observations: Sequence[Observation], begin_us: int, step_s: float) -> dict[Outcome, Points]:
    """The number of requests of each outcome in each step, by the time of their responses."""
    counts: dict[Outcome, dict[int, int]] = {outcome: {} for outcome in Outcome}
    for one in observations:
        step = int((one.answered_us - begin_us) / SECOND_US / step_s)
        counts[one.outcome][step] = counts[one.outcome].get(step, 0) + 1
    return {outcome: [(step * step_s, n) for step, n in sorted(steps.items())] for outcome, steps in counts.items()}


def latencies(observations: Sequence[Observation], begin_us: int, step_s: float) -> list[Curve]:
    """The latency percentiles of each step, in milliseconds."""
    steps: dict[int, list[float]] = {}
    for one in observations:
        if one.outcome is not Outcome.FAILED:
            step = int((one.sent_us - begin_us) / SECOND_US / step_s)
            steps.setdefault(step, []).append((one.answered_us - one.sent_us) / 1_000)
    ordered = [(step * step_s, sorted(ms)) for step, ms in sorted(steps.items())]
    return [
        Curve(f"p{percent}", [(at_s, percentile(ms, percent)) for at_s, ms in ordered], gap_s=1.5 * step_s)
        for percent in PERCENTILES
    ]


def slots(observations: Sequence[Observation], allowed: int | None, begin_us: int, end_s: float) -> list[Curve]:
    """The requests that were certainly in flight, and the number of slots."""
    points = [((at_us - begin_us) / SECOND_US, float(number)) for at_us, number in in_flight(observations)]
    curves = [Curve("in flight", _thinned([(0.0, 0.0), *points]), stairs=True)]
    return curves if allowed is None else [*curves, Curve("slots", [(0.0, allowed), (end_s, allowed)], bound=True)]


def step_width_s(seconds: float) -> float:
    """A width that divides a run into at most 90 steps."""
    return next((step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300) if seconds / step <= 90), 3_600)


def _thinned(points: Points) -> Points:
    """At most `_MAX_POINTS` points: the highest of each part, and the last point."""
    if len(points) <= _MAX_POINTS:
        return points
    size = -(-len(points) // _MAX_POINTS)
    parts = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [max(part, key=lambda point: point[1]) for part in parts[:-1]] + [points[-1]]
