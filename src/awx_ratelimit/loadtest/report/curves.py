"""Curves over time from observations: what was let in against what might have been, latencies, slots. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome, admitted
from awx_ratelimit.loadtest.audit.slots import under_way
from awx_ratelimit.loadtest.report.report import percentile

_SECOND_US: Final = 1_000_000
#: A curve has as many points as a screen can show.
_MOST_POINTS: Final = 600
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of (seconds since the first request, value). Stairs keep a value until the next point.

    Nothing is known, and nothing drawn, between points that are more than `gap_s` apart.
    """

    name: str
    points: Points
    stairs: bool = False
    bound: bool = False
    gap_s: float = 1e9


def let_in(observations: Sequence[Observation], rate: Rate, begin_us: int) -> list[Curve]:
    """How much was admitted by then, and the envelope: how much at most, from all that came before.

    The envelope is what was admitted and what the bucket still held. Where the bucket was overdrawn it is below.
    """
    order = sorted(admitted(observations), key=lambda one: one.answered_us)
    total = 0
    level, at_us = 0.0, begin_us
    so_far, most = [(0.0, 0.0)], [(0.0, float(rate.burst))]
    for one in order:
        level = _drained(rate, level, at_us, one.answered_us) + one.cost
        at_us, total = one.answered_us, total + one.cost
        at_s = (at_us - begin_us) / _SECOND_US
        so_far.append((at_s, total))
        most.append((at_s, total + rate.burst - level))
    return [
        Curve("admitted", _thinned(so_far), stairs=True),
        Curve("at most", _thinned(most), bound=True),
    ]


def _drained(rate: Rate, level: float, at_us: int, now_us: int) -> float:
    period_us = rate.period_ms * 1_000
    if rate.calendar:
        return 0.0 if now_us // period_us > at_us // period_us else level
    return max(0.0, level - rate.tokens * (now_us - at_us) / period_us)


def counts(observations: Sequence[Observation], begin_us: int, step_s: float) -> dict[Outcome, Points]:
    """Requests of each outcome in each step, by the time of their answers."""
    found: dict[Outcome, dict[int, int]] = {outcome: {} for outcome in Outcome}
    for one in observations:
        step = int((one.answered_us - begin_us) / _SECOND_US / step_s)
        found[one.outcome][step] = found[one.outcome].get(step, 0) + 1
    return {outcome: [(step * step_s, n) for step, n in sorted(steps.items())] for outcome, steps in found.items()}


def latencies(observations: Sequence[Observation], begin_us: int, step_s: float) -> list[Curve]:
    """The percentiles of each step, in milliseconds."""
    steps: dict[int, list[float]] = {}
    for one in observations:
        if one.outcome is not Outcome.FAILED:
            step = int((one.sent_us - begin_us) / _SECOND_US / step_s)
            steps.setdefault(step, []).append((one.answered_us - one.sent_us) / 1_000)
    return [
        Curve(
            f"p{percent}",
            [(step * step_s, percentile(sorted(ms), percent)) for step, ms in sorted(steps.items())],
            gap_s=1.5 * step_s,
        )
        for percent in (50, 95, 99)
    ]


def slots(observations: Sequence[Observation], allowed: int | None, begin_us: int, end_s: float) -> list[Curve]:
    """How many were surely under way, of how many allowed."""
    points = [((at_us - begin_us) / _SECOND_US, float(number)) for at_us, number in under_way(observations)]
    found = [Curve("under way", _thinned([(0.0, 0.0), *points]), stairs=True)]
    return found if allowed is None else [*found, Curve("slots", [(0.0, allowed), (end_s, allowed)], bound=True)]


def step_s(seconds: float) -> float:
    """A step of which some sixty fill a run."""
    return next((step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300) if seconds / step <= 90), 3_600)


def _thinned(points: Points) -> Points:
    """No more points than can be seen; the first, the last and the highest of each part stay."""
    if len(points) <= _MOST_POINTS:
        return points
    each = -(-len(points) // _MOST_POINTS)
    parts = [points[begin : begin + each] for begin in range(0, len(points), each)]
    return [max(part, key=lambda point: point[1]) for part in parts[:-1]] + [points[-1]]
