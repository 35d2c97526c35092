"""The notation of rates in words (``60/minute``): the one user of the `limits` package."""

import limits

from awx_ratelimit.core.rates import Rate
from awx_ratelimit.errors import InvalidLimit


def parse_rate(text: str, *, name: str | None = None, burst: int | None = None) -> Rate:
    """See `Rate.parse`."""
    try:
        (item,) = limits.parse_many(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidLimit(
            f"{text!r} is not one rate; allowed is a number per unit, such as '60/minute' or '100 per 2 hours'"
        ) from error
    unit = item.GRANULARITY.name
    given = name or (unit if item.multiples == 1 else f"{item.multiples}{unit}")
    return Rate(given, item.amount, item.get_expiry() * 1000, burst)
