"""Calendar periods: when each day, week, month or year begins, in a time zone.

A period begins at midnight of its anchor, by the local clock. The boundary is the first instant at which the clock has
reached that midnight: where clocks are put forward over midnight, the moment of the jump; where midnight comes twice,
the first one. Instants are milliseconds since the Unix epoch.
"""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Literal, get_args

from awx_ratelimit.core.validation import check_whole_number, short_repr
from awx_ratelimit.errors import InvalidLimit

Period = Literal["day", "week", "month", "year"]
PERIODS: Final = get_args(Period)
#: The longest that a period can be, apart from shifts of the local clock.
LONGEST_MS: Final = {period: days * 86_400_000 for period, days in zip(PERIODS, (1, 7, 31, 366), strict=True)}
_LAST_ANCHOR_DAY: Final = {"day": 1, "week": 7, "month": 31, "year": 31}
_MONTHS = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
_MAX_CALENDARS = 1_024


class Periods:
    """A way to cut time into periods. `bounds(at_ms)` is the period that contains an instant: its start and its end."""

    __slots__ = ()

    def bounds(self, at_ms: int) -> tuple[int, int]:
        raise NotImplementedError


class EqualPeriods(Periods):
    """Periods of `period_ms`, counted from the epoch: a day begins at midnight UTC."""

    __slots__ = ("_period_ms",)

    def __init__(self, period_ms: int) -> None:
        self._period_ms = period_ms

    def bounds(self, at_ms: int) -> tuple[int, int]:
        start_ms = at_ms - at_ms % self._period_ms
        return start_ms, start_ms + self._period_ms


class CalendarPeriods(Periods):
    """Days, weeks, months or years in a time zone. See `calendar_periods` for the arguments."""

    __slots__ = ("_anchor_day", "_anchor_month", "_latest", "_period", "_zone")

    def __init__(self, period: Period, anchor_day: int, anchor_month: int, zone: tzinfo) -> None:
        self._period = period
        self._anchor_day = anchor_day
        self._anchor_month = anchor_month
        self._zone = zone
        self._latest = (0, 0)

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """Raises ValueError for an instant outside the years 2 to 9998."""
        latest = self._latest
        if not latest[0] <= at_ms < latest[1]:
            # Threads may compute it at once; each assigns a whole pair.
            self._latest = latest = self._compute(at_ms)
        return latest

    def _compute(self, at_ms: int) -> tuple[int, int]:
        try:
            local = (_EPOCH + at_ms * _MS).astimezone(self._zone)
            number = self._number(local.date())
            # Near a boundary, the date on the clock may be that of the period before or after.
            while self._boundary_ms(number) > at_ms:
                number -= 1
            while self._boundary_ms(number + 1) <= at_ms:
                number += 1
            return self._boundary_ms(number), self._boundary_ms(number + 1)
        except (ValueError, OverflowError):
            raise ValueError(
                f"the clock returned {short_repr(at_ms)} ms since the epoch, which no calendar covers"
            ) from None

    def _number(self, day: date) -> int:
        """The number of the period that contains a day; the next period has the next number."""
        if self._period == "day":
            return day.toordinal()
        if self._period == "week":
            return (day.toordinal() - self._anchor_day) // 7
        number = day.year * _MONTHS + day.month - 1 if self._period == "month" else day.year
        return number if day >= self._first_day(number) else number - 1

    def _first_day(self, number: int) -> date:
        if self._period == "day":
            return date.fromordinal(number)
        if self._period == "week":
            return date.fromordinal(7 * number + self._anchor_day)
        year, month = divmod(number, _MONTHS) if self._period == "month" else (number, self._anchor_month - 1)
        return date(year, month + 1, min(self._anchor_day, monthrange(year, month + 1)[1]))

    def _boundary_ms(self, number: int) -> int:
        day = self._first_day(number)
        instant = _first_instant(datetime.combine(day, time()), self._zone)
        return (instant - _EPOCH) // _MS


def _first_instant(midnight: datetime, zone: tzinfo) -> datetime:
    """The first instant at which the clock of `zone` has reached `midnight`, a local time."""
    instant = midnight.replace(tzinfo=zone).astimezone(UTC)
    if _local(instant, zone) == midnight:
        return instant
    # The clock jumps over midnight. This time, read with the offset before the jump, is after it.
    early = midnight.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while instant - early > _SECOND:
        middle = early + (instant - early) // 2 // _SECOND * _SECOND
        early, instant = (early, middle) if _local(middle, zone) >= midnight else (middle, instant)
    return instant


def _local(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


@lru_cache(_MAX_CALENDARS)
def calendar_periods(period: Period, anchor_day: int, anchor_month: int, timezone: str) -> CalendarPeriods:
    """The periods that begin on an anchor: a day of the week (1 is Monday), of the month, or of a month of the year.

    In a month without that day, the period begins on its last day. Raises InvalidLimit for a wrong argument.
    """
    if period not in PERIODS:
        raise InvalidLimit(f"period: expected one of {', '.join(map(repr, PERIODS))}, got {short_repr(period)}")
    check_whole_number(anchor_day, "anchor_day")
    check_whole_number(anchor_month, "anchor_month")
    last = _LAST_ANCHOR_DAY[period]
    if anchor_day > last:
        allowed = f"1 to {last} for a {period}" if last > 1 else "none, because a day has no anchor"
        raise InvalidLimit(f"anchor_day: expected {allowed}, got {anchor_day}")
    if anchor_month > (_MONTHS if period == "year" else 1):
        allowed = f"1 to {_MONTHS}" if period == "year" else "none, because only a year has one"
        raise InvalidLimit(f"anchor_month: expected {allowed}, got {anchor_month}")
    return CalendarPeriods(period, anchor_day, anchor_month, _zone(timezone))


def _zone(timezone: object) -> tzinfo:
    if timezone == "UTC":
        # Works on machines without time zones, too.
        return UTC
    # Imported on first use: few plans need it, and it loads the configuration of Python's build.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(timezone)  # type: ignore[arg-type]
    except (LookupError, ValueError, TypeError, OSError):
        raise InvalidLimit(
            f"timezone: expected the name of a time zone such as 'Europe/Berlin', got {short_repr(timezone)}; "
            "if this machine has no time zones, install the Python package tzdata"
        ) from None
