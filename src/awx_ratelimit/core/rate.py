"""What may be used: `Rate`, a token bucket, and `Concurrency`, a number of slots. Validated at birth, then only read.

Debt is counted in integers: one token is `unit` units of debt, and `drain` units drain in a millisecond. With
`unit = period_ms` and `drain = tokens`, 7 per minute is exact.
"""

import re
from dataclasses import dataclass, field
from math import gcd
from typing import Literal

from awx_ratelimit.errors import InvalidLimit

#: The largest integer below which a double, and so a Redis script, counts exactly.
EXACT_MAX = 2**53
CONCURRENT = "concurrent"
Refill = Literal["continuous", "calendar"]
_SHOWN = 80
_NAME = re.compile(r"[a-z0-9_.-]{1,32}")


def shown(value: object) -> str:
    """`value` as an error shows it: not longer than a line, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # A number of more digits than Python prints, or a table inside itself.
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def whole_number(value: object, what: str, *, least: int = 1) -> None:
    """Raise InvalidLimit unless `value` is an int (a bool is none) of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidLimit(f"{what} is {shown(value)}; allowed is a whole number of at least {least}")


def set_fields(frozen: object, **values: object) -> None:
    """Write fields of a frozen dataclass while it is being born."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def check_flag(value: object, what: str) -> None:
    """Raise InvalidLimit unless `value` is True or False."""
    if not isinstance(value, bool):
        raise InvalidLimit(f"{what} is {shown(value)}; allowed are true and false")


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """A named token bucket: `tokens` come back per `period_ms`; at most `burst` are held at once.

    In any interval of t milliseconds a `continuous` rate admits at most ``burst + tokens * t / period_ms``. A
    `calendar` rate forgives the whole debt at each multiple of the period since the epoch in UTC, and its burst is
    its tokens. `burst=None` means `tokens`. With `shadow=True` the rate is evaluated and reported, and refuses nobody.

    Raises InvalidLimit for a name that is not 1 to 32 of ``[a-z0-9_.-]``, a number below 1, and a rate whose capacity
    of ``burst * period_ms`` cannot be counted exactly in 53 bits.
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
            parsed = f"; write Rate.parse({shown(self.name)})" if "/" in str(self.name) else ""
            raise InvalidLimit(
                f"a limit's name is {shown(self.name)}; allowed are 1 to 32 of a-z, 0-9, '_', '.' and '-'{parsed}"
            )
        if self.name == CONCURRENT:
            raise InvalidLimit(f"a rate cannot be named {CONCURRENT!r}: that is the name of the slots")
        whole_number(self.tokens, f"{self.name}: tokens")
        whole_number(self.period_ms, f"{self.name}: period_ms")
        whole_number(self.burst, f"{self.name}: burst")
        if self.refill not in ("continuous", "calendar"):
            raise InvalidLimit(f"{self.name}: refill is {self.refill!r}; allowed are 'continuous' and 'calendar'")
        if self.refill == "calendar" and self.burst != self.tokens:
            raise InvalidLimit(
                f"{self.name}: burst is {self.burst}; a calendar rate's burst is its {self.tokens} tokens"
            )
        check_flag(self.shadow, f"{self.name}: shadow")

    def _count_exactly(self) -> None:
        unit, drain = self.period_ms, self.tokens
        if self.burst * unit > EXACT_MAX:
            common = gcd(unit, drain)
            unit, drain = unit // common, drain // common
        if self.burst * unit > EXACT_MAX or drain > EXACT_MAX:
            raise InvalidLimit(
                f"{self.name}: {shown(self.tokens)} per {shown(self.period_ms)} ms, burst {shown(self.burst)}, "
                "cannot be counted exactly; "
                "choose a smaller burst, a shorter period, or tokens and period_ms with a larger common divisor"
            )
        set_fields(self, unit=unit, drain=drain, capacity=self.burst * unit, calendar=self.refill == "calendar")

    @classmethod
    def parse(cls, text: str, name: str | None = None, burst: int | None = None) -> "Rate":
        """The rate that `text` says as the `limits` package writes it, such as ``60/minute`` or ``100 per 2 hours``.

        Named by its unit (``minute``; ``2hour`` for 2 hours) unless `name` is given. Raises InvalidLimit, also for
        months and years: their length depends on the calendar. Write ``1000/30 days`` for a bucket of 30 days.
        """
        # Upward, and on first use only: the notation needs a third-party package, which the core must not load.
        from awx_ratelimit.core.notation import parse_rate

        return parse_rate(text, name=name, burst=burst)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `slots` leases alive at once; the limit is always named ``concurrent``.

    `ttl_ms` is how long a lease outlives its last renewal where the life of its holder cannot be known (Redis), at
    least 1,000 ms. `max_hold_ms` is the longest a lease may be held, renewed or not; None is no such bound.
    """

    slots: int
    ttl_ms: int = 30_000
    max_hold_ms: int | None = None
    shadow: bool = False

    def __post_init__(self) -> None:
        whole_number(self.slots, f"{CONCURRENT}: slots")
        whole_number(self.ttl_ms, f"{CONCURRENT}: ttl_ms", least=1_000)
        if self.max_hold_ms is not None:
            whole_number(self.max_hold_ms, f"{CONCURRENT}: max_hold_ms")
        check_flag(self.shadow, f"{CONCURRENT}: shadow")
