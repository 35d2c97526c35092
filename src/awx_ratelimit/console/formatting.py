"""Numbers and times for people to read. Pure; times are in UTC."""

from datetime import datetime
from typing import Final

from awx_ratelimit.core import durations
from awx_ratelimit.runtime import clock

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
#: English, whatever the locale of the process.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NAMES: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ENDINGS: Final = {1: "st", 2: "nd", 3: "rd"}
_TEENS: Final = range(11, 14)
_SHORT_UNITS: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
#: Covers the difference between the clocks of two servers.
_JUST_NOW_SECONDS: Final = 45
#: For programs that read the page.
rfc3339: Final = clock.rfc3339
period: Final = durations.period


def number(value: int) -> str:
    """``10,000``."""
    return f"{value:,}"


def short_number(value: int) -> str:
    """A round number in at most a few characters: ``500``, ``2.5k``, ``10M``. Rounded down to a tenth of its unit."""
    for unit, name in _SHORT_UNITS:
        if value >= unit:
            tenths = value * 10 // unit % 10
            return f"{value // unit:,}{f'.{tenths}' if tenths else ''}{name}"
    return str(value)


def percent(part: int, whole: int) -> str:
    """``12 %``; ``under 1 %`` and ``over 99 %`` instead of a rounded 0 or 100."""
    if part and part * 100 < whole:
        return "under 1 %"
    return "over 99 %" if whole - whole // 100 < part < whole else f"{round(part * 100 / whole) if whole else 0} %"


def count(value: int, noun: str) -> str:
    """``1 key``, ``1,000 keys``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def duration(seconds: int) -> str:
    """An exact duration in its largest whole unit: ``7 days``, ``24 hours``."""
    for unit_seconds, unit in _UNITS:
        # "24 hours" reads better than "1 day".
        if seconds % unit_seconds == 0 and seconds >= (2 * unit_seconds if unit == "day" else unit_seconds):
            return count(seconds // unit_seconds, unit)
    return count(seconds, "second")


def time_between(at: datetime, other: datetime) -> str:
    """The time between two moments, rounded down to its largest unit: ``3 days``."""
    seconds = abs((at - other).total_seconds())
    for unit_seconds, unit in _UNITS:
        if seconds >= unit_seconds:
            return count(int(seconds // unit_seconds), unit)
    return "a moment"


def time_ago(at: datetime | None, now: datetime) -> str:
    """``3 days ago``; ``never`` for None."""
    if at is None:
        return "never"
    return "just now" if (now - at).total_seconds() < _JUST_NOW_SECONDS else f"{time_between(at, now)} ago"


def age_days(at: datetime, now: datetime) -> int:
    """The whole days since `at`."""
    return max(0, (now - at).days)


def date(at: datetime) -> str:
    """``1 Jun 2025``."""
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def day_and_month(at: datetime) -> str:
    """``1 Jun``."""
    return f"{at.day} {_MONTHS[at.month - 1]}"


def time_of_day(at: datetime) -> str:
    """``10:00``."""
    return f"{at:%H:%M}"


def date_and_time(at: datetime) -> str:
    """``1 Jun 2025, 10:00 UTC``."""
    return f"{date(at)}, {at:%H:%M} UTC"


def month(number: int) -> str:
    """``January`` for 1."""
    return _MONTH_NAMES[number - 1]


def weekday(number: int) -> str:
    """``Monday`` for 1."""
    return _WEEKDAYS[number - 1]


def ordinal(value: int) -> str:
    """``1st``, ``15th``."""
    return f"{value}{'th' if value in _TEENS else _ENDINGS.get(value % 10, 'th')}"
