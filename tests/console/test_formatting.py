"""Numbers for people to read."""

import pytest

from awx_ratelimit.console import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1k"),
        (2_500, "2.5k"),
        (1_050_000, "1M"),
        (5 * 10**9, "5B"),
        (2**63, "9,223,372T"),
    ],
)
def test_short_number(value: int, text: str) -> None:
    """Numbers beside a chart are short, however large they are."""
    assert formatting.short_number(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 10, "0 %"),
        (1, 1_000, "under 1 %"),
        (1, 100, "1 %"),
        (1, 3, "33 %"),
        (99, 100, "99 %"),
        (999, 1_000, "over 99 %"),
        (10, 10, "100 %"),
    ],
)
def test_percent(part: int, whole: int, text: str) -> None:
    """0 % is none and 100 % is all: nothing is rounded to them."""
    assert formatting.percent(part, whole) == text
