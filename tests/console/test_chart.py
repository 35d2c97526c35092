"""The geometry of a bar chart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit.console.chart import HEIGHT_PX, Column, Series, bar_chart, tick_values

ROUNDING = 0.01
VALUES = st.lists(st.tuples(st.integers(0, 2**60), st.integers(0, 2**60)), min_size=1, max_size=60)


def columns(number: int) -> list[Column]:
    """Columns, every second of which has a label."""
    return [Column(f"day {i}", f"{i}", "never" if i % 2 else "wide" if i % 4 else "always") for i in range(number)]


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (0, (0, 1)),
        (1, (0, 1)),
        (4, (0, 1, 2, 3, 4)),
        (5, (0, 2, 4, 6)),
        (9, (0, 5, 10)),
        (101, (0, 50, 100, 150)),
        (999_999, (0, 500_000, 1_000_000)),
    ],
)
def test_ticks(largest: int, expected: tuple[int, ...]) -> None:
    """The axis has at most five round numbers, the last of which is the largest value or a little more."""
    assert tick_values(largest) == expected


@given(VALUES)
def test_bars_stay_inside(values: list[tuple[int, int]]) -> None:
    """Bars do not overlap, are inside of the chart, and can be seen if their value is not zero."""
    allowed, refused = zip(*values, strict=True)
    chart = bar_chart("t", "s", columns(len(values)), [Series("a", "a", allowed), Series("r", "r", refused)])
    end = 0.0
    for bar, pair in zip(chart.bars, values, strict=True):
        assert end <= bar.left + ROUNDING
        end = bar.left + bar.width
        assert [part.kind for part in bar.parts] == [kind for kind, value in zip("ar", pair, strict=True) if value]
        for part in bar.parts:
            assert part.height_px >= 1
            # Parts that are too small to be seen are drawn larger.
            assert part.top_px >= -4
            assert part.top_px + part.height_px <= HEIGHT_PX + ROUNDING
        if len(bar.parts) == 2:
            assert bar.parts[1].top_px + bar.parts[1].height_px <= bar.parts[0].top_px + ROUNDING
    assert end <= 100 + ROUNDING


def test_heights() -> None:
    """Heights are in proportion; one huge bar leaves tiny ones visible, and zero has no bar."""
    series = [Series("allowed", "allowed", [1_000_000, 500_000, 3, 0])]
    chart = bar_chart("t", "s", columns(4), series)

    assert [[part.height_px for part in bar.parts] for bar in chart.bars] == [[HEIGHT_PX], [HEIGHT_PX / 2], [2], []]
    assert [tick.text for tick in chart.ticks] == ["0", "500k", "1M"]


def test_texts() -> None:
    """A bar says its values in words, and labels stand below the middle of their columns."""
    series = [Series("allowed", "allowed", [1_000, 2, 3, 4]), Series("refused", "refused", [5, 6, 7, 8])]
    chart = bar_chart("t", "s", columns(4), series)

    assert chart.bars[0].text == "day 0: 1,000 allowed, 5 refused"
    assert [(label.text, label.middle, label.is_wide_only) for label in chart.labels] == [
        ("0", 12.5, False),
        ("2", 62.5, True),
    ]
