"""The notation of rates, such as ``60/minute``: the one of the package `limits`, with calendar periods."""

import re
from typing import Any, Final, NamedTuple, cast

from awx_ratelimit.core.calendar_periods import Period
from awx_ratelimit.core.foreign_notation import in_our_notation
from awx_ratelimit.core.validation import short_repr
from awx_ratelimit.errors import InvalidLimit

#: The package `limits` reads "60/0 minutes" as one minute.
_ZERO_UNITS = re.compile(r"(?:/|per)\s*0+\s*[a-z]", re.IGNORECASE)
_CALENDAR = re.compile(
    r"\s*([0-9]{1,18})\s*(?:/|\bper\b)\s*(?:([1-9][0-9]{0,17})\s*)?(week|month|year)s?\s*", re.IGNORECASE
)
#: The days that are written instead of several calendar periods.
_DAYS: Final = {"week": 7, "month": 30, "year": 365}


class ParsedRate(NamedTuple):
    """A rate in the notation. One of `period_ms` and `period` is None."""

    name: str
    tokens: int
    period_ms: int | None
    period: Period | None


def parse_notation(text: str) -> ParsedRate:
    """Parse one rate. Raises InvalidLimit for any other text."""
    calendar = _CALENDAR.fullmatch(text) if isinstance(text, str) else None
    if calendar is not None:
        return _calendar_rate(text, int(calendar[1]), int(calendar[2] or 1), calendar[3].lower())
    item = _parsed(text)
    unit = item.GRANULARITY.name
    name = unit if item.multiples == 1 else f"{item.multiples}{unit}"
    return ParsedRate(name, item.amount, item.get_expiry() * 1000, None)


def is_rate(text: object) -> bool:
    """Whether `text` is one rate in this notation."""
    try:
        return isinstance(text, str) and bool(parse_notation(text))
    except InvalidLimit:
        return False


def spelled(text: str) -> str:
    """The rate that `text` means in the notation of other programs; `text` itself if nobody can know."""
    meant = in_our_notation(text)
    return meant if meant != text and is_rate(meant) else text


def one_rate(text: str) -> str:
    """Return the notation of a limit. Raises InvalidLimit for several rates, and says how to write them as a plan."""
    parts = _parts(text)
    if len(parts) > 1:
        rates = ", ".join(f"Rate.parse({part!r})" for part in parts)
        raise InvalidLimit(
            f"limit: expected one rate, got {len(parts)} in {short_repr(text)}; "
            f"write Plan('limits', ({rates})), or one decorator for each"
        )
    return text


def _parts(text: str) -> list[str]:
    """The rates in a text such as ``5/minute;100/hour``, as other libraries write several; none if one is wrong."""
    parts = [part.strip() for part in re.split("[;,|]", text)]
    try:
        for part in parts:
            parse_notation(part)
    except InvalidLimit:
        return []
    return parts


def _calendar_rate(text: str, tokens: int, multiples: int, unit: str) -> ParsedRate:
    if multiples != 1:
        days = _DAYS[unit] * multiples
        raise InvalidLimit(
            f"{short_repr(text)}: expected one {unit}, because the calendar has no periods of {multiples} {unit}s; "
            f"for a token bucket of {days} days write '{tokens}/{days} days'"
        )
    return ParsedRate(unit, tokens, None, cast(Period, unit))


def _parsed(text: str) -> Any:
    # Imported on first use: `import awx_ratelimit` loads no third-party package.
    import limits

    try:
        items = [] if _ZERO_UNITS.search(text) else limits.parse_many(text)
    except (ValueError, TypeError, AttributeError):
        items = []
    if len(items) != 1:
        raise InvalidLimit(
            f"expected one rate, such as '60/minute' or '100 per 2 hours', got {short_repr(text)}"
            f"{_remedy(text, len(items))}"
        )
    return items[0]


def _remedy(text: Any, rates: int) -> str:
    """What to write instead of a `text` of several `rates`, or of none."""
    if rates:
        return f"; write each of the {rates} by itself"
    meant = spelled(text) if isinstance(text, str) else text
    return "" if meant == text else f"; write {meant!r}"
