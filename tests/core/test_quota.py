"""Which limits are quotas, and when their owner is warned."""

import pytest

from awx_ratelimit import Rate
from awx_ratelimit.core.quota import is_quota, used_percent, warning_percent
from awx_ratelimit.core.usage import Usage

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Rate("day", 5, period="day"), True),
        (Rate("month", 5, period="month", timezone="Asia/Tokyo"), True),
        (Rate("tokens", 5, DAY_MS, measure="tokens"), True),
        (Rate("billing", 5, 30 * DAY_MS), True),
        (Rate("hour", 5, 3_600_000), False),
        (Rate("almost", 5, DAY_MS - 1), False),
        (Rate("smoothed", 1_000, DAY_MS, burst=999), False),
        (Rate("generous", 1_000, DAY_MS, burst=2_000), True),
        (Rate("large-burst", 60, 60_000, burst=1_000_000), False),
    ],
)
def test_is_quota(rate: Rate, *, expected: bool) -> None:
    """A quota has a period of at least a day and lets all its tokens be used at once."""
    assert is_quota(rate) is expected


@pytest.mark.parametrize(
    ("used", "capacity", "percent", "warning"),
    [
        (0, 10, 0, None),
        (799, 1_000, 79, None),
        (800, 1_000, 80, 80),
        (999, 1_000, 99, 80),
        (1_000, 1_000, 100, 100),
        (1, 1, 100, 100),
    ],
)
def test_warning(used: int, capacity: int, percent: int, warning: int | None) -> None:
    """The owner is warned at 80 %, and at 100 % when nothing is left."""
    usage = Usage("day", capacity, capacity - used, 0, 0, refused=False, shadow=False)

    assert used_percent(usage) == percent
    assert warning_percent(usage) == warning
