"""Rates as text in the records of a host file. Two rates have the same text if and only if they are equal.

``minute:60/60000+60`` is 60 per 60,000 ms with a burst of 60. ``c`` and ``s`` after it say calendar and shadow, and
``@tokens`` the measure. A calendar period, with its anchors and its time zone, replaces the milliseconds:
``month:1000/month,15,1,Europe/Berlin+1000c``.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

from awx_ratelimit.core.rate import REQUESTS, Rate

_RATE = re.compile(
    r"([a-z0-9_-]{1,32}):(\d+)/(?:(\d+)|([a-z]+),(\d+),(\d+),([^ ,+]+))\+(\d+)(c?)(s?)(?:@([a-z0-9_-]{1,32}))?"
)


def rate_text(rate: Rate) -> str:
    """The text of `rate`, without spaces."""
    period: object = rate.period_ms
    if rate.period is not None:
        # The name of a time zone is the path of a file.
        zone = quote(rate.timezone)
        period = f"{rate.period},{rate.anchor_day},{rate.anchor_month},{zone}"
    calendar, shadow = "c" if rate.calendar else "", "s" if rate.shadow else ""
    measure = "" if rate.measure == REQUESTS else f"@{rate.measure}"
    return f"{rate.name}:{rate.tokens}/{period}+{rate.burst}{calendar}{shadow}{measure}"


def parse_rate(text: str) -> Rate:
    """The rate of a text. Raises ValueError or InvalidLimit if there is none."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    name, tokens, period_ms, period, day, month, zone, burst, calendar, shadow, measure = match.groups()
    named: dict[str, Any] = {"burst": int(burst), "shadow": bool(shadow), "measure": measure or REQUESTS}
    if period is None:
        return Rate(name, int(tokens), int(period_ms), refill="calendar" if calendar else "continuous", **named)
    named |= {"period": period, "anchor_day": int(day), "anchor_month": int(month), "timezone": unquote(zone)}
    return Rate(name, int(tokens), **named)
