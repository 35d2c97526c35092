"""The geometry of a bar chart, for the template ``chart.html``. Pure: it knows nothing of usage, times or colours.

Heights are pixels. Horizontal positions are percentages of the width, so that a chart fits a phone and a wide screen
and its texts keep their size. The style sheet has a colour for each kind of a series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from awx_ratelimit.console import formatting

HEIGHT_PX: Final = 180
#: A value that is not zero can be seen, however small it is.
_MIN_BAR_PX: Final = 2.0
#: Between two parts of a bar.
_SEAM_PX: Final = 1.0
#: The part of a column that its bar leaves free.
_FREE_SHARE: Final = 0.25
_MAX_INTERVALS: Final = 4
_STEPS: Final = (1, 2, 5)
Shown: TypeAlias = Literal["always", "wide", "never"]


class Series(NamedTuple):
    """The values of one kind, a whole number for each column. `name` is its word in the legend: ``refused``."""

    kind: str
    name: str
    values: Sequence[int]


class Column(NamedTuple):
    """A place on the horizontal axis. `name` is its full name; `label` stands below it, if it is shown there.

    `shown` says where the label appears: ``always``, on ``wide`` screens only, or ``never``.
    """

    name: str
    label: str
    shown: Shown


class Part(NamedTuple):
    """A rectangle of a bar. `top_px` is its distance from the top of the chart."""

    kind: str
    top_px: float
    height_px: float


class Bar(NamedTuple):
    """The bar of one column, from `left` on. `text` says its values: ``1 Jun 2025: 5 allowed, 1 refused``."""

    column_left: float
    column_width: float
    left: float
    width: float
    text: str
    parts: tuple[Part, ...]


class Tick(NamedTuple):
    """A line across the chart, and the number beside it."""

    top_px: float
    text: str


class Label(NamedTuple):
    """A text below the middle of a column."""

    middle: float
    text: str
    is_wide_only: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart. `title` and `summary` say in words what it shows."""

    title: str
    summary: str
    legend: tuple[Series, ...]
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    labels: tuple[Label, ...]
    height_px: int = HEIGHT_PX


def bar_chart(title: str, summary: str, columns: Sequence[Column], series: Sequence[Series]) -> Chart:
    """Lay out a chart with a bar for each column. The series stand upon each other, the first one at the bottom."""
    totals = [sum(values) for values in zip(*(each.values for each in series), strict=True)]
    scale = tick_values(max(totals, default=0))
    ticks = tuple(
        Tick(_rounded(HEIGHT_PX - value * HEIGHT_PX / scale[-1]), formatting.short_number(value)) for value in scale
    )
    width = 100 / max(1, len(columns))
    bars = tuple(_bar(number, width, column, series, scale[-1]) for number, column in enumerate(columns))
    labels = tuple(
        Label(_rounded((number + 0.5) * width), column.label, column.shown == "wide")
        for number, column in enumerate(columns)
        if column.shown != "never"
    )
    return Chart(title, summary, tuple(series), bars, ticks, labels)


def tick_values(largest: int) -> tuple[int, ...]:
    """Round numbers from 0 to at least `largest`, at most five, at equal distances. There is always one above 0."""
    power = 1
    while True:
        for step in (power * step for step in _STEPS):
            if step * _MAX_INTERVALS >= largest:
                return tuple(range(0, max(1, -(-largest // step)) * step + 1, step))
        power *= 10


def _bar(number: int, width: float, column: Column, series: Sequence[Series], top: int) -> Bar:
    left, free = number * width, width * _FREE_SHARE
    values = ", ".join(f"{formatting.number(each.values[number])} {each.name}" for each in series)
    return Bar(
        _rounded(left),
        _rounded(width),
        _rounded(left + free / 2),
        _rounded(width - free),
        f"{column.name}: {values}",
        _parts([(each.kind, each.values[number]) for each in series], top),
    )


def _parts(values: Sequence[tuple[str, int]], top: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    bottom_px = float(HEIGHT_PX)
    for kind, value in values:
        if value > 0:
            height_px = max(_MIN_BAR_PX, value * HEIGHT_PX / top)
            # The seam is taken from a part that is large enough.
            seam_px = _SEAM_PX if parts and height_px > 2 * _MIN_BAR_PX else 0.0
            parts.append(Part(kind, _rounded(bottom_px - height_px), _rounded(height_px - seam_px)))
            bottom_px -= height_px
    return tuple(parts)


def _rounded(value: float) -> float:
    return round(value, 3)
