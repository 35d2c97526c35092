"""`Rate`, a token bucket, and `Concurrency`, a number of slots. Both are immutable and validate their fields.

Debt is counted in integers: one token is `unit` units of debt, and `drain` units drain in a millisecond. With
`unit = period_ms` and `drain = tokens`, 7 per minute is exact.
"""

import re
from dataclasses import dataclass, field
from math import gcd
from typing import Any, Literal

from awx_ratelimit.core.validation import check_bool, check_whole_number, set_fields, short_repr
from awx_ratelimit.errors import InvalidLimit

#: The largest integer up to which a double counts exactly. Redis scripts count in doubles.
EXACT_MAX = 2**53
CONCURRENT = "concurrent"
Refill = Literal["continuous", "calendar"]
_NAME = re.compile(r"[a-z0-9_.-]{1,32}")
#: The package `limits` reads "60/0 minutes" as one minute.
_ZERO_UNITS = re.compile(r"(?:/|per)\s*0+\s*[a-z]", re.IGNORECASE)
#: The days that the package `limits` takes for a month and a year.
_DAYS = {"month": 30, "year": 360}


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """A token bucket with a name: `tokens` refill every `period_ms`, up to `burst`.

    In any interval of t milliseconds, a `continuous` rate admits at most ``burst + tokens * t / period_ms``. A
    `calendar` rate is full again at each multiple of the period since the epoch (UTC); its burst equals its tokens.
    `burst=None` means `tokens`. With `shadow=True` the rate is evaluated and reported, but refuses nothing.

    Raises InvalidLimit for a name that is not 1 to 32 of ``[a-z0-9_.-]``, for a number below 1, and if
    ``burst * period_ms`` cannot be counted exactly in 53 bits.
    """

    name: str
    tokens: int
    period_ms: int
    burst: int
    refill: Refill
    shadow: bool
    unit: int = field(init=False, repr=False, compare=False)
    drain: int = field(init=False, repr=False, compare=False)
    capacity: int = field(init=False, repr=False, compare=False)
    calendar: bool = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        name: str,
        tokens: int | None = None,
        period_ms: int | None = None,
        burst: int | None = None,
        refill: Refill = "continuous",
        shadow: bool = False,
    ) -> None:
        set_fields(
            self,
            name=name,
            tokens=tokens,
            period_ms=period_ms,
            burst=tokens if burst is None else burst,
            refill=refill,
            shadow=shadow,
        )
        self._validate()
        self._count_exactly()

    def _validate(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            parsed = f"; write Rate.parse({short_repr(self.name)})" if "/" in str(self.name) else ""
            raise InvalidLimit(
                f"a limit's name: expected 1 to 32 of a-z, 0-9, '_', '.' and '-', got {short_repr(self.name)}{parsed}"
            )
        if self.name == CONCURRENT:
            raise InvalidLimit(f"a rate cannot have the name {CONCURRENT!r}: it is the name of the concurrency limit")
        check_whole_number(self.tokens, f"{self.name}: tokens")
        check_whole_number(self.period_ms, f"{self.name}: period_ms")
        check_whole_number(self.burst, f"{self.name}: burst")
        if self.refill not in ("continuous", "calendar"):
            raise InvalidLimit(f"{self.name}: refill: expected 'continuous' or 'calendar', got {self.refill!r}")
        if self.refill == "calendar" and self.burst != self.tokens:
            raise InvalidLimit(
                f"{self.name}: burst: expected {self.tokens}, the tokens of this calendar rate, got {self.burst}"
            )
        check_bool(self.shadow, f"{self.name}: shadow")

    def _count_exactly(self) -> None:
        unit, drain = self.period_ms, self.tokens
        if self.burst * unit > EXACT_MAX:
            common = gcd(unit, drain)
            unit, drain = unit // common, drain // common
        if self.burst * unit > EXACT_MAX or drain > EXACT_MAX:
            raise InvalidLimit(
                f"{self.name}: {short_repr(self.tokens)} per {short_repr(self.period_ms)} ms, "
                f"burst {short_repr(self.burst)}, cannot be counted exactly; "
                "use a smaller burst, a shorter period, or tokens and period_ms with a larger common divisor"
            )
        set_fields(self, unit=unit, drain=drain, capacity=self.burst * unit, calendar=self.refill == "calendar")

    @classmethod
    def parse(cls, text: str, name: str | None = None, burst: int | None = None) -> "Rate":
        """Parse the notation of the `limits` package, such as ``60/minute`` or ``100 per 2 hours``.

        The default name is the unit: ``minute``, or ``2hour`` for 2 hours. Raises InvalidLimit for any other text, and
        for months and years, because their length varies. Write ``1000/30 days`` for a bucket of 30 days.
        """
        item = _parsed(text)
        unit = item.GRANULARITY.name
        if unit in _DAYS:
            days = _DAYS[unit] * item.multiples
            raise InvalidLimit(
                f"{short_repr(text)}: a token bucket cannot follow the calendar; "
                f"for a bucket of {days} days, which admits up to {2 * item.amount} in {days} days, "
                f"write '{item.amount}/{days} days'"
            )
        if name is None:
            name = unit if item.multiples == 1 else f"{item.multiples}{unit}"
        return cls(name, item.amount, item.get_expiry() * 1000, burst)


def _parsed(text: str) -> Any:
    # Imported on first use: `import awx_ratelimit` loads no third-party package.
    import limits

    try:
        items = [] if _ZERO_UNITS.search(text) else limits.parse_many(text)
    except (ValueError, TypeError, AttributeError):
        items = []
    if len(items) != 1:
        raise InvalidLimit(f"expected one rate, such as '60/minute' or '100 per 2 hours', got {short_repr(text)}")
    return items[0]


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `slots` leases at the same time. The name of this limit is always ``concurrent``.

    `ttl_ms` (at least 1,000) is how long a lease lives after its last renewal, in backends that cannot see whether its
    holder is alive (Redis). `max_hold_ms` is the longest time a lease may be held, even if renewed; None: no bound.
    Raises InvalidLimit for a wrong field.
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
