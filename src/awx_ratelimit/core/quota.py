"""Quotas: which limits are quotas, and how much of one may be used before its owner is warned. Pure.

A used-up limit per minute refills within a minute. A used-up quota per month can stop its owner for weeks, so owners
are warned before.
"""

from typing import Final

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.usage import Usage

#: The shares of a quota, in percent, at which its owner is warned; the smallest first.
WARNINGS_PERCENT: Final = (80, 100)
_DAY_MS: Final = 86_400_000


def is_quota(rate: Rate) -> bool:
    """Whether `rate` is a quota: its period is a day or longer, and its burst is at least the tokens of a period.

    A smaller burst is full again long before the period ends, so that its usage says nothing of the period.
    """
    return rate.period_ms >= _DAY_MS and rate.burst >= rate.tokens


def used_percent(usage: Usage) -> int:
    """The used share of a limit in percent, rounded down: it is 100 only if not one token is left."""
    return (usage.capacity - usage.remaining) * 100 // usage.capacity


def warning_percent(usage: Usage) -> int | None:
    """The largest of `WARNINGS_PERCENT` that the used share has reached; None below the smallest."""
    percent = used_percent(usage)
    return next((warning for warning in reversed(WARNINGS_PERCENT) if percent >= warning), None)
