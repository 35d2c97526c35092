"""Calendar periods against an independent definition: when the clock of a zone first reaches each midnight."""

from bisect import bisect_right
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awx_ratelimit import InvalidLimit, Rate
from awx_ratelimit.core.calendar_periods import CalendarPeriods, Period, calendar_periods

FIRST, LAST = date(2024, 1, 1), date(2040, 12, 31)
ZONES = sorted(available_timezones())
#: Midnight is skipped or comes twice, days change at odd hours, or the offset has half hours.
ODD_ZONES = [
    "Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/Santiago", "America/Scoresbysund",
    "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Atlantic/Azores", "Australia/Lord_Howe",
    "Europe/Berlin", "Pacific/Chatham", "Pacific/Kiritimati", "UTC",
]  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
#: No zone changes its clocks twice in this time.
_STEP_S = 5 * 86_400


def offset_at(zone: ZoneInfo, instant_s: int) -> int:
    """How far the clock of `zone` is ahead of UTC, in seconds."""
    offset = (_EPOCH + timedelta(seconds=instant_s)).astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


@cache
def segments(name: str) -> list[tuple[int, int]]:
    """When each offset of a zone begins, in seconds since the epoch, and that offset; the first one long before."""
    zone = ZoneInfo(name)
    at_s, end_s = seconds(FIRST - 800 * _DAY), seconds(LAST + 800 * _DAY)
    found = [(at_s - 10**9, offset_at(zone, at_s))]
    while at_s < end_s:
        low_s, at_s = at_s, at_s + _STEP_S
        if offset_at(zone, at_s) == found[-1][1]:
            continue
        while at_s - low_s > 1:
            middle_s = (low_s + at_s) // 2
            low_s, at_s = (low_s, middle_s) if offset_at(zone, middle_s) != found[-1][1] else (middle_s, at_s)
        found.append((at_s, offset_at(zone, at_s)))
    return found


def seconds(day: date) -> int:
    return (day - _EPOCH.date()).days * 86_400


def first_reached_ms(name: str, day: date) -> int:
    """The first instant at which the clock shows midnight of `day` or later."""
    midnight_s, found = seconds(day), segments(name)
    ends = [start_s for start_s, _ in found[1:]] + [10**12]
    for (start_s, offset_s), end_s in zip(found, ends, strict=True):
        if midnight_s - offset_s < end_s:
            return max(start_s, midnight_s - offset_s) * 1_000
    raise AssertionError(name)


def begins(day: date, period: Period, anchor_day: int, anchor_month: int) -> bool:
    """Whether a period begins on this day."""
    if period == "week":
        return day.isoweekday() == anchor_day
    in_month = day.day == min(anchor_day, monthrange(day.year, day.month)[1])
    return period == "day" or (in_month and (period == "month" or day.month == anchor_month))


def boundaries(name: str, kind: tuple[Period, int, int], first: date, last: date) -> list[int]:
    """The first instants of the periods that begin on one of these days."""
    days = (first + number * _DAY for number in range((last - first).days))
    return [first_reached_ms(name, day) for day in days if begins(day, *kind)]


def expected(name: str, kind: tuple[Period, int, int], at_ms: int) -> tuple[int, int]:
    """The period that contains an instant."""
    around = {"day": 3, "week": 10, "month": 35, "year": 370}[kind[0]] * _DAY
    day = (_EPOCH + timedelta(milliseconds=at_ms)).date()
    starts = boundaries(name, kind, day - around, day + around)
    number = bisect_right(starts, at_ms)
    return starts[number - 1], starts[number]


def fresh(name: str, period: Period, anchor_day: int = 1, anchor_month: int = 1) -> CalendarPeriods:
    """Periods that remember no earlier answer."""
    return CalendarPeriods(period, anchor_day, anchor_month, ZoneInfo(name))


_kinds: st.SearchStrategy[tuple[Period, int, int]] = st.one_of(
    st.just(("day", 1, 1)),
    st.tuples(st.just("week"), st.integers(1, 7), st.just(1)),
    st.tuples(st.just("month"), st.integers(1, 31), st.just(1)),
    st.tuples(st.just("year"), st.integers(1, 31), st.integers(1, 12)),
)
_instants = st.integers(
    int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1_000),
    int(datetime(2040, 12, 31, tzinfo=UTC).timestamp() * 1_000),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), _kinds, _instants, st.integers(-1, 1))
def test_any_zone_and_period(name: str, kind: tuple[Period, int, int], at_ms: int, off_ms: int) -> None:
    """The period of any instant, and of the milliseconds around its boundaries, is the one by definition."""
    around = [at_ms, *(edge_ms + off_ms for edge_ms in expected(name, kind, at_ms))]

    assert [fresh(name, *kind).bounds(ms) for ms in around] == [expected(name, kind, ms) for ms in around]


def check_days_around_changes(name: str) -> None:
    """Compare the days around each change of a zone's offset with the definition."""
    periods = fresh(name, "day")
    for start_s, _ in segments(name)[1:]:
        day = (_EPOCH + timedelta(seconds=start_s)).date()
        if not FIRST < day < LAST:
            continue
        starts = boundaries(name, ("day", 1, 1), day - 3 * _DAY, day + 4 * _DAY)
        for at_ms in (start_s * 1_000 - 1, start_s * 1_000, *starts[1:-2], *(ms - 1 for ms in starts[2:-2])):
            number = bisect_right(starts, at_ms)
            assert periods.bounds(at_ms) == (starts[number - 1], starts[number]), (name, at_ms)


@pytest.mark.parametrize("name", ODD_ZONES)
def test_days_around_clock_changes(name: str) -> None:
    """A day begins at the jump if midnight is skipped, and at the first midnight if there are two."""
    check_days_around_changes(name)


@pytest.mark.full
@pytest.mark.parametrize("name", ZONES)
def test_days_around_clock_changes_in_every_zone(name: str) -> None:
    """The same holds for each zone of this machine."""
    check_days_around_changes(name)


@pytest.mark.full
@pytest.mark.parametrize("name", ODD_ZONES)
@pytest.mark.parametrize(
    "kind", [("day", 1, 1), ("week", 1, 1), ("week", 7, 1), ("month", 1, 1), ("month", 31, 1), ("year", 29, 2)]
)
def test_every_period_until_2040(name: str, kind: tuple[Period, int, int]) -> None:
    """From 2024 to 2040, every period begins and ends as defined."""
    periods = fresh(name, *kind)

    for start_ms, end_ms in pairwise(boundaries(name, kind, FIRST, LAST)):
        assert periods.bounds(start_ms) == periods.bounds(end_ms - 1) == (start_ms, end_ms)


def utc_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("zone", "period", "anchor_day", "at", "start", "end"),
    [
        # Clocks jump from 00:00 to 01:00, and midnight of the day does not exist.
        ("Africa/Cairo", "day", 1, "2025-04-25T12:00Z", "2025-04-24T22:00Z", "2025-04-25T21:00Z"),
        # Clocks go from 01:00 back to 00:00: the first midnight counts, and the day has 25 hours.
        ("America/Havana", "day", 1, "2025-11-02T12:00Z", "2025-11-02T04:00Z", "2025-11-03T05:00Z"),
        # Samoa had no 30 December 2011.
        ("Pacific/Apia", "day", 1, "2011-12-30T10:30Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
        ("Pacific/Apia", "day", 1, "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        ("UTC", "month", 31, "2024-02-29T00:00Z", "2024-02-29T00:00Z", "2024-03-31T00:00Z"),
        ("UTC", "month", 30, "2025-02-27T23:59Z", "2025-01-30T00:00Z", "2025-02-28T00:00Z"),
        ("UTC", "month", 15, "2038-01-19T03:14:08Z", "2038-01-15T00:00Z", "2038-02-15T00:00Z"),
        ("UTC", "week", 3, "2024-02-29T00:00Z", "2024-02-28T00:00Z", "2024-03-06T00:00Z"),
        ("Europe/Berlin", "month", 1, "2038-03-31T22:00Z", "2038-03-31T22:00Z", "2038-04-30T22:00Z"),
    ],
)
def test_named_cases(zone: str, period: Period, anchor_day: int, at: str, start: str, end: str) -> None:
    """Gaps, folds, skipped days, short months and times after 2038."""
    bounds = fresh(zone, period, anchor_day).bounds(utc_ms(at))

    assert bounds == (utc_ms(start), utc_ms(end))


@pytest.mark.parametrize(("year", "start"), [(2024, "2024-02-29"), (2025, "2025-02-28"), (2100, "2100-02-28")])
def test_year_from_a_leap_day(year: int, start: str) -> None:
    """A year from 29 February begins on the last day of February where that day does not exist."""
    periods = fresh("UTC", "year", 29, 2)

    assert periods.bounds(utc_ms(f"{year}-06-01T00:00Z"))[0] == utc_ms(f"{start}T00:00Z")


def test_answers_do_not_depend_on_their_order() -> None:
    """The remembered answer is used only for instants of its period."""
    kind: tuple[Period, int, int] = ("month", 15, 1)
    periods, starts = calendar_periods(*kind, "Europe/Berlin"), boundaries("Europe/Berlin", kind, FIRST, LAST)

    for at_ms in (starts[5], starts[9], starts[5] - 1, starts[6] - 1, starts[6], starts[9]):
        assert periods.bounds(at_ms) == expected("Europe/Berlin", kind, at_ms)


@pytest.mark.parametrize("at_ms", [-(10**17), 10**17, 10**30])
def test_times_of_no_calendar(at_ms: int) -> None:
    """An instant that no calendar covers is a ValueError with the time."""
    with pytest.raises(ValueError, match="which no calendar covers"):
        fresh("UTC", "month").bounds(at_ms)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"period": "fortnight"}, "m: period: expected one of 'day', 'week', 'month', 'year', got 'fortnight'"),
        ({"period": "month", "anchor_day": 32}, "anchor_day: expected 1 to 31 for a month, got 32"),
        ({"period": "month", "anchor_day": 0}, "anchor_day: expected an integer >= 1, got 0"),
        ({"period": "week", "anchor_day": 8}, "anchor_day: expected 1 to 7 for a week, got 8"),
        ({"period": "day", "anchor_day": 2}, "because a day has no anchor"),
        ({"period": "month", "anchor_month": 2}, "because only a year has one"),
        ({"period": "year", "anchor_month": 13}, "anchor_month: expected 1 to 12, got 13"),
        ({"period": "month", "timezone": "Mars/Olympus"}, "install the Python package tzdata"),
        ({"period": "month", "timezone": "../etc/passwd"}, "timezone: expected the name of a time zone"),
        ({"period": "month", "timezone": ["UTC"]}, "m: "),
        ({"period": "month", "period_ms": 5}, "expected period or period_ms, got both"),
        ({"period": "month", "burst": 5}, "burst: expected 9, the tokens of this calendar rate, got 5"),
        ({"period_ms": 5, "anchor_day": 2}, "need a calendar period; write period='month'"),
        ({"period_ms": 5, "timezone": "Europe/Berlin"}, "need a calendar period; write period='month'"),
        ({"period_ms": 5, "measure": "Tokens"}, "m: measure: expected 1 to 32 of a-z"),
        ({}, "m: period_ms: expected an integer >= 1, got None"),
    ],
)
def test_wrong_fields(fields: dict[str, Any], says: str) -> None:
    """A wrong period, anchor, time zone or measure is an InvalidLimit that says what is allowed."""
    with pytest.raises(InvalidLimit, match=says.replace("(", r"\(")):
        Rate("m", 9, **fields)
