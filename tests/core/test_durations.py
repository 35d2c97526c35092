"""Durations in words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit.core import durations

UNITS_MS = {"day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1_000}


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (1_000, "second"),
        (60_000, "minute"),
        (86_400_000, "day"),
        (120_000, "2 minutes"),
        (90_000, "90 seconds"),
        (2_592_000_000, "30 days"),
        (1_500, "1,500 ms"),
    ],
)
def test_period(ms: int, words: str) -> None:
    """A period is exact, in its largest whole unit."""
    assert durations.period(ms) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 seconds"),
        (1, "0.1 seconds"),
        (1_000, "1 second"),
        (3_150, "3.2 seconds"),
        (59_950, "1 minute"),
        (60_000, "1 minute"),
        (61_001, "1 minute 2 seconds"),
        (3_599_999, "1 hour"),
        (7_500_000, "2 hours 5 minutes"),
        (86_399_999, "1 day"),
        (86_400_000, "1 day"),
        (93_600_000, "1 day 2 hours"),
        (93_600_001, "1 day 3 hours"),
    ],
)
def test_wait(ms: int, words: str) -> None:
    """A wait has at most two units, and is rounded up."""
    assert durations.wait(ms) == words


@given(st.integers(0, 10 * 366 * 86_400_000))
def test_waits_are_long_enough(ms: int) -> None:
    """Who waits as long as the words say has waited long enough, and at most 5 % or 0.1 s longer."""
    said_ms = sum(
        round(float(number.replace(",", "")) * UNITS_MS[unit])
        for number, unit in re.findall(r"([\d,.]+) (day|hour|minute|second)", durations.wait(ms))
    )

    assert ms <= said_ms < max(ms * 1.05 + 1, ms + 100)
