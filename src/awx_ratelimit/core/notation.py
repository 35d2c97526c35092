"""The notation of rates in words (``60/minute``): the one user of the `limits` package."""

import re

import limits

from awx_ratelimit.core.rate import Rate, shown
from awx_ratelimit.errors import InvalidLimit

# `limits` reads "60/0 minutes" as one minute.
_ZERO_UNITS = re.compile(r"(?:/|per)\s*0+\s*[a-z]", re.IGNORECASE)
#: What `limits` takes a month and a year for.
_DAYS = {"month": 30, "year": 360}


def parse_rate(text: str, *, name: str | None = None, burst: int | None = None) -> Rate:
    """See `Rate.parse`."""
    item = _parsed(text)
    unit = item.GRANULARITY.name
    if unit in _DAYS:
        raise _not_calendar(text, item, unit)
    given = (unit if item.multiples == 1 else f"{item.multiples}{unit}") if name is None else name
    return Rate(given, item.amount, item.get_expiry() * 1000, burst)


def _not_calendar(text: str, item: limits.RateLimitItem, unit: str) -> InvalidLimit:
    """The error for a period whose length depends on the calendar."""
    days = _DAYS[unit] * item.multiples
    return InvalidLimit(
        f"{shown(text)} needs the calendar, which a token bucket does not follow; "
        f"if a bucket of {days} days will do, which admits up to {2 * item.amount} in {days} days, "
        f"write '{item.amount}/{days} days'"
    )


def _parsed(text: str) -> limits.RateLimitItem:
    try:
        items = [] if _ZERO_UNITS.search(text) else limits.parse_many(text)
    except (ValueError, TypeError, AttributeError):
        items = []
    if len(items) != 1:
        raise InvalidLimit(
            f"{shown(text)} is not one rate; allowed is a number per unit, such as '60/minute' or '100 per 2 hours'"
        )
    return items[0]
