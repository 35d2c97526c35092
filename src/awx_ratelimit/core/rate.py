"""`Rate`, a token bucket, and `Concurrency`, a number of slots. Both are immutable and validate their fields.

Debt is counted in integers: one token is `unit` units of debt, and `drain` units drain in a millisecond. With
`unit = period_ms` and `drain = tokens`, 7 per minute is exact. A calendar period has no fixed length, and nothing
drains before its end, so one token of it is one unit.
"""

import re
from dataclasses import dataclass, field
from math import gcd
from typing import Final, Literal

from awx_ratelimit.core.calendar_periods import LONGEST_MS, EqualPeriods, Period, Periods, calendar_periods
from awx_ratelimit.core.notation import parse_notation, spelled
from awx_ratelimit.core.option_names import RATE_HINTS, SLOT_HINTS, with_option_hints
from awx_ratelimit.core.validation import check_bool, check_whole_number, set_fields, short_repr
from awx_ratelimit.errors import InvalidLimit

#: The largest integer up to which a double counts exactly. Redis scripts count in doubles.
EXACT_MAX: Final = 2**53
CONCURRENT: Final = "concurrent"
#: The measure of a cost that is a plain number.
REQUESTS: Final = "requests"
Refill = Literal["continuous", "calendar"]
_matches_name = re.compile(r"[a-z0-9_-]{1,32}").fullmatch
#: The measures of all rates of this process, as far as they are few.
_counted: set[str] = {REQUESTS}
_MAX_COUNTED: Final = 1_024


def is_counted(measure: str) -> bool:
    """Whether a rate of this process counts `measure`. It may be wrong if it returns True."""
    return measure in _counted or len(_counted) >= _MAX_COUNTED


def is_name(text: object) -> bool:
    """Whether `text` can be the name of a limit or of a measure."""
    return isinstance(text, str) and _matches_name(text) is not None


class _LongestMs(int):
    """The `period_ms` of a calendar period. Its type shows `dataclasses.replace` that nobody passed it."""


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """A token bucket with a name: `tokens` refill every `period_ms`, up to `burst`.

    In any interval of t milliseconds, a `continuous` rate admits at most ``burst + tokens * t / period_ms``. A
    `calendar` rate is full again at each multiple of the period since the epoch (UTC); its burst equals its tokens.
    `burst=None` means `tokens`. With `shadow=True` the rate is evaluated and reported, but refuses nothing.

    `period`, instead of `period_ms`, is a ``day``, ``week``, ``month`` or ``year`` of the calendar: the rate is full
    again when the next one begins, at midnight in `timezone`. `period_ms` is then the longest that it can be. A week
    begins on `anchor_day` 1 (Monday) to 7, a month on `anchor_day` 1 to 31, a year on `anchor_day` of `anchor_month`.
    In a month without that day it is the last day.

    `measure` says what is counted: ``requests``, or another currency of costs, such as ``tokens``.

    Raises InvalidLimit for a name or a measure that is not 1 to 32 of ``[a-z0-9_-]``, for a number below 1, for a
    period that does not exist, and if ``burst * period_ms`` cannot be counted exactly in 53 bits.
    """

    name: str
    tokens: int
    period_ms: int
    period: Period | None
    burst: int
    refill: Refill
    measure: str
    anchor_day: int
    anchor_month: int
    timezone: str
    shadow: bool
    unit: int = field(init=False, repr=False, compare=False)
    drain: int = field(init=False, repr=False, compare=False)
    capacity: int = field(init=False, repr=False, compare=False)
    calendar: bool = field(init=False, repr=False, compare=False)
    #: The periods of a calendar rate. A continuous rate does not use them.
    periods: Periods = field(init=False, repr=False, compare=False)

    @with_option_hints(RATE_HINTS)
    def __init__(
        self,
        name: str,
        tokens: int | None = None,
        period_ms: int | None = None,
        burst: int | None = None,
        refill: Refill = "continuous",
        shadow: bool = False,
        *,
        period: Period | None = None,
        measure: str = REQUESTS,
        anchor_day: int = 1,
        anchor_month: int = 1,
        timezone: str = "UTC",
    ) -> None:
        set_fields(
            self,
            name=name,
            tokens=tokens,
            period_ms=period_ms,
            period=period,
            burst=tokens if burst is None else burst,
            refill=refill,
            measure=measure,
            anchor_day=anchor_day,
            anchor_month=anchor_month,
            timezone=timezone,
            shadow=shadow,
        )
        self._validate()
        self._set_periods()
        self._count_exactly()

    def _validate(self) -> None:
        if not is_name(self.name):
            parsed = f"; write Rate.parse({short_repr(spelled(str(self.name)))})" if "/" in str(self.name) else ""
            raise InvalidLimit(
                f"a limit's name: expected 1 to 32 of a-z, 0-9, '_' and '-', got {short_repr(self.name)}{parsed}"
            )
        if self.name == CONCURRENT:
            raise InvalidLimit(f"a rate cannot have the name {CONCURRENT!r}: it is the name of the concurrency limit")
        if not is_name(self.measure):
            raise InvalidLimit(
                f"{self.name}: measure: expected 1 to 32 of a-z, 0-9, '_' and '-', got {short_repr(self.measure)}"
            )
        if self.measure.__class__ is str and len(_counted) < _MAX_COUNTED:
            _counted.add(self.measure)
        check_whole_number(self.tokens, f"{self.name}: tokens")
        if self.period is None:
            check_whole_number(self.period_ms, f"{self.name}: period_ms")
        check_whole_number(self.burst, f"{self.name}: burst")
        if self.refill not in ("continuous", "calendar"):
            raise InvalidLimit(f"{self.name}: refill: expected 'continuous' or 'calendar', got {self.refill!r}")
        check_bool(self.shadow, f"{self.name}: shadow")

    def _set_periods(self) -> None:
        if self.period is not None:
            if self.period_ms is not None and not isinstance(self.period_ms, _LongestMs):
                raise InvalidLimit(
                    f"{self.name}: expected period or period_ms, got both; a calendar period has no fixed length"
                )
            periods: Periods = self._calendar_periods()
            set_fields(self, refill="calendar", period_ms=_LongestMs(LONGEST_MS[self.period]), periods=periods)
        elif (self.anchor_day, self.anchor_month, self.timezone) != (1, 1, "UTC"):
            raise InvalidLimit(
                f"{self.name}: anchor_day, anchor_month and timezone need a calendar period; write period='month'"
            )
        else:
            set_fields(self, periods=EqualPeriods(self.period_ms))
        set_fields(self, calendar=self.refill == "calendar")
        if self.calendar and self.burst != self.tokens:
            raise InvalidLimit(
                f"{self.name}: burst: expected {self.tokens}, the tokens of this calendar rate, got {self.burst}"
            )

    def _calendar_periods(self) -> Periods:
        try:
            return calendar_periods(self.period, self.anchor_day, self.anchor_month, self.timezone)
        except (InvalidLimit, TypeError) as error:
            # Values that cannot be hashed raise TypeError.
            raise InvalidLimit(f"{self.name}: {error}") from None

    def _count_exactly(self) -> None:
        unit, drain = (1, 1) if self.period else (self.period_ms, self.tokens)
        if self.burst * unit > EXACT_MAX:
            common = gcd(unit, drain)
            unit, drain = unit // common, drain // common
        if self.burst * unit > EXACT_MAX or drain > EXACT_MAX:
            raise InvalidLimit(
                f"{self.name}: {short_repr(self.tokens)} per {short_repr(self.period_ms)} ms, "
                f"burst {short_repr(self.burst)}, cannot be counted exactly; "
                "use a smaller burst, a shorter period, or tokens and period_ms with a larger common divisor"
            )
        set_fields(self, unit=unit, drain=drain, capacity=self.burst * unit)

    @classmethod
    def parse(cls, text: str, name: str | None = None, burst: int | None = None) -> "Rate":
        """Parse a notation such as ``60/minute``, ``100 per 2 hours`` or ``1000/month``.

        The default name is the unit: ``minute``, or ``2hour`` for 2 hours. Weeks, months and years are calendar
        periods in UTC; all other units are token buckets. Raises InvalidLimit for any other string, and for several
        weeks, months or years.
        """
        parsed = parse_notation(text)
        return cls(name or parsed.name, parsed.tokens, parsed.period_ms, period=parsed.period, burst=burst)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `slots` leases at the same time. The name of this limit is always ``concurrent``.

    `ttl_ms` (at least 1,000) is how long a lease lives after its last renewal, in backends that cannot see whether its
    holder is alive (Redis). `max_hold_ms` is the longest time a lease may be held, even if renewed; None means no
    bound. Raises InvalidLimit for a wrong field.
    """

    slots: int
    ttl_ms: int = 30_000
    max_hold_ms: int | None = None
    shadow: bool = False

    def __post_init__(self) -> None:
        check_whole_number(self.slots, f"{CONCURRENT}: slots")
        check_whole_number(self.ttl_ms, f"{CONCURRENT}: ttl_ms", minimum=1_000)
        if self.max_hold_ms is not None:
            check_whole_number(self.max_hold_ms, f"{CONCURRENT}: max_hold_ms")
        check_bool(self.shadow, f"{CONCURRENT}: shadow")


# The initializer is the one that `dataclass` writes.
Concurrency.__init__ = with_option_hints(SLOT_HINTS)(Concurrency.__init__)  # type: ignore[method-assign]
