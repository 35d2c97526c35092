"""Curves over time from observations, and their drawings as SVG, so that a report is a single file. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, log10
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
    if rate.calendar:
        return 0.0 if rate.periods.bounds(now_us // 1_000)[0] * 1_000 > at_us else level
    return max(0.0, level - rate.tokens * (now_us - at_us) / (rate.period_ms * 1_000))


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
        if one.decided:
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


WIDTH, HEIGHT = 920, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 26
_TICKS: Final = 6
#: (start in seconds, end in seconds, name) of a profile.
Band = tuple[float, float, str]


class Frame:
    """The axes of a drawing: positions of times and values, in pixels."""

    def __init__(self, seconds: float, max_value: float) -> None:
        self._seconds = max(seconds, 0.1)
        self._step = _round_up(max(max_value, 1e-9) / _TICKS)
        self.max_value = self._step * max(1, ceil(max_value / self._step - 1e-9))

    def x(self, at_s: float) -> float:
        """The distance of a time from the left edge."""
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, at_s / self._seconds)), 1)

    def y(self, value: float) -> float:
        """The distance of a value from the top edge."""
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self.max_value, 1)

    def grid(self) -> Iterable[str]:
        """The grid lines and the numbers of both axes."""
        for number in range(round(self.max_value / self._step) + 1):
            value = number * self._step
            y = self.y(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text class="tick" x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
        step_s = _round_up(self._seconds / _TICKS)
        for number in range(floor(self._seconds / step_s) + 1):
            x = self.x(number * step_s)
            yield f'<text class="tick" x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{number * step_s:g} s</text>'

    def bands(self, bands: Sequence[Band]) -> Iterable[str]:
        """The background bands that show the profiles."""
        for number, (begin_s, end_s, name) in enumerate(bands):
            x, width = self.x(begin_s), max(0.0, self.x(end_s) - self.x(begin_s))
            size = f'width="{width:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
            yield f'<rect class="band band{number % 2}" x="{x}" y="{_TOP}" {size}>'
            yield f"<title>{escape(name)}</title></rect>"
            if width > 7 * len(name):
                yield f'<text class="name" x="{x + 3}" y="{_TOP - 6}">{escape(name)}</text>'


def lines(title: str, curves: Sequence[Curve], bands: Sequence[Band], seconds: float) -> str:
    """A figure with curves over time and their bounds."""
    frame = Frame(seconds, max((value for curve in curves for _, value in curve.points), default=1.0))
    drawn = [_path(curve, number, frame) for number, curve in enumerate(curves)]
    names = [(curve.name, "bound" if curve.bound else f"c{number}") for number, curve in enumerate(curves)]
    return _figure(title, names, [*frame.bands(bands), *frame.grid(), *drawn])


def bars(title: str, parts: Sequence[tuple[str, Points]], width_s: float, bands: Sequence[Band], seconds: float) -> str:
    """A figure with stacked bars, one for each step."""
    sums: dict[float, float] = {}
    drawn: list[tuple[str, float, float, float, str]] = []
    for name, points in parts:
        for at_s, value in points:
            drawn.append((name, at_s, sums.get(at_s, 0.0), value, f"{value:g} {name} at {at_s:g} s"))
            sums[at_s] = sums.get(at_s, 0.0) + value
    frame = Frame(seconds, max(sums.values(), default=1.0))
    rectangles = [
        f'<rect class="{name}" x="{frame.x(at_s)}" y="{frame.y(base + value)}" '
        f'width="{max(1.0, frame.x(at_s + width_s) - frame.x(at_s) - 1):.1f}" '
        f'height="{frame.y(base) - frame.y(base + value):.1f}"><title>{label}</title></rect>'
        for name, at_s, base, value, label in drawn
    ]
    return _figure(title, [(name, name) for name, _ in parts], [*frame.bands(bands), *frame.grid(), *rectangles])


def _path(curve: Curve, number: int, frame: Frame) -> str:
    steps, previous_s = list[str](), -inf
    for at_s, value in curve.points:
        x, y = frame.x(at_s), frame.y(value)
        if at_s - previous_s > curve.gap_s:
            # An isolated point becomes a dot.
            steps.append(f"M{x} {y}h0")
        else:
            steps.append(f"H{x}V{y}" if curve.stairs else f"L{x} {y}")
        previous_s = at_s
    return f'<path class="{"bound" if curve.bound else f"c{number}"}" d="{"".join(steps)}"/>'


def _figure(title: str, names: Sequence[tuple[str, str]], drawn: Iterable[str]) -> str:
    legend = "".join(f'<span class="key {kind}">{escape(name)}</span>' for name, kind in names)
    return (
        f"<figure><figcaption>{escape(title)} {legend}</figcaption>"
        f'<div class="wide" tabindex="0"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg></div></figure>"
    )


def _round_up(rough: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(rough))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * (1 - 1e-9))
