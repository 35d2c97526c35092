"""Numbers and times as a person reads them. Pure; times are in UTC."""

from datetime import datetime, timedelta

_STEPS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
#: In English whatever the locale of the process.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PERIODS = {1_000: "second", 60_000: "minute", 3_600_000: "hour", 86_400_000: "day"}
#: A key's clock and ours may differ by as much, and nobody minds.
_JUST_NOW_S = 45


def number(value: int) -> str:
    """``10,000``."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """``1 key``, ``1,000 keys``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def lasting(seconds: int) -> str:
    """A length of time in its largest whole unit: ``7 days``, ``24 hours``."""
    for size, unit in _STEPS:
        # A day is rather 24 hours.
        if seconds % size == 0 and seconds >= (2 * size if unit == "day" else size):
            return counted(seconds // size, unit)
    return counted(seconds, "second")


def distance(between: timedelta) -> str:
    """How long it is, without what is too fine to matter: ``3 days``."""
    seconds = abs(between.total_seconds())
    for size, unit in _STEPS:
        if seconds >= size:
            return counted(int(seconds // size), unit)
    return "a moment"


def ago(at: datetime | None, now: datetime) -> str:
    """``3 days ago``; of what never was: ``never``."""
    if at is None:
        return "never"
    return "just now" if (now - at).total_seconds() < _JUST_NOW_S else f"{distance(now - at)} ago"


def days(at: datetime, now: datetime) -> int:
    """How many whole days ago it was."""
    return max(0, (now - at).days)


def date(at: datetime) -> str:
    """``1 Jun 2025``."""
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def moment(at: datetime) -> str:
    """``1 Jun 2025, 10:00 UTC``."""
    return f"{date(at)}, {at:%H:%M} UTC"


def machine(at: datetime) -> str:
    """RFC 3339, for programs that read the page."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def period(period_ms: int) -> str:
    """``minute``, ``2 minutes``, ``1,500 ms``."""
    for size_ms, unit in reversed(_PERIODS.items()):
        if period_ms % size_ms == 0:
            times = period_ms // size_ms
            return unit if times == 1 else counted(times, unit)
    return f"{period_ms:,} ms"
