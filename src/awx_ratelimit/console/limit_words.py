"""Limits in words for people: what a bar counts, when it resets, and what a plan allows. Pure."""

from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from awx_ratelimit.console import formatting
from awx_ratelimit.core.budget import ACCOUNT_SCOPE, SERVICE_SCOPE
from awx_ratelimit.core.plan import PERIODS_MS, Plan
from awx_ratelimit.core.rate import CONCURRENT, REQUESTS, Rate
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.management.usage import LimitUsage

_NOW: Final = {
    "second": "this second", "minute": "this minute", "hour": "this hour", "day": "today", "week": "this week",
    "month": "this month", "year": "this year",
}  # fmt: skip
_SCOPES: Final = {ACCOUNT_SCOPE: "All keys together", SERVICE_SCOPE: "All users together"}
#: Months with fewer days than the anchor begin on their last day.
_SURE_DAYS: Final = 28


def label(rate: Rate | None) -> str:
    """What the bar of a limit counts: ``this minute``, ``tokens today``. None is ``in flight``, for the slots."""
    if rate is None:
        return "in flight"
    if rate.measure == REQUESTS:
        return _NOW.get(rate.name, rate.name)
    words = _NOW.get(rate.name.removeprefix(f"{rate.measure}-"))
    return f"{rate.measure} {words}" if words else f"{rate.name} ({rate.measure})"


def quota(rate: Rate) -> str:
    """What a quota is of: ``requests this month``; for one that refills all the time, ``10,000 requests per day``."""
    period = _NOW.get(rate.period or formatting.period(rate.period_ms)) if rate.calendar else None
    return f"{rate.measure} {period}" if period else allowance(rate)


def limit_name(limit: str, plan: Plan | None) -> str:
    """A limit by the name that refusals are counted by: ``Requests per minute``, ``All keys together: tokens per day``.

    `plan` is the plan of the account, if it is known. A limit that it no longer has keeps its name.
    """
    scope, _, name = limit.rpartition(".")
    holder = plan if not scope or plan is None else plan.account if scope == ACCOUNT_SCOPE else None
    rate = next((rate for rate in holder.rates if rate.name == name), None) if holder else None
    if rate is not None:
        words = f"{rate.measure} per {rate.period or formatting.period(rate.period_ms)}"
    else:
        words = "requests in flight" if name == CONCURRENT else f"requests per {name}" if name in _NOW else name
    if scope:
        return f"{_SCOPES.get(scope, scope)}: {words}"
    return words if words == name else words[:1].upper() + words[1:]


def reset_note(limit: LimitUsage) -> str:
    """When a limit resets: ``resets on 15 December``. Empty for limits that refill, and for minutes and seconds."""
    rate, at_ms = limit.rate, limit.resets_at_ms
    if rate is None or at_ms is None or rate.period_ms < PERIODS_MS["hour"]:
        return ""
    at = utc_datetime(at_ms).astimezone(_zone(rate))
    if rate.period_ms > PERIODS_MS["day"]:
        return f"resets on {_date(at, rate)}{_zone_note(rate)}"
    midnight = at.hour == at.minute == at.second == 0
    return f"resets at {'midnight' if midnight else f'{at:%H:%M}'}{_zone_note(rate) or ' UTC'}"


def reset_aside(limit: LimitUsage) -> str:
    """The same inside of a sentence: `` (resets on 15 December, Europe/Berlin time)``."""
    note = reset_note(limit)
    return f" ({note.replace(' (', ', ').removesuffix(')')})" if note else ""


def reset_rule(rate: Rate) -> str:
    """When each period of a rate begins: ``resets on the 15th``. Empty for all but weeks, months and years."""
    match rate.period:
        case "week":
            rule = f"resets on {formatting.weekday(rate.anchor_day)}s"
        case "month":
            last = " or the last day" if rate.anchor_day > _SURE_DAYS else ""
            rule = f"resets on the {formatting.ordinal(rate.anchor_day)}{last}"
        case "year":
            rule = f"resets on {rate.anchor_day} {formatting.month(rate.anchor_month)}"
        case _:
            return ""
    return rule + _zone_note(rate)


def allowance(rate: Rate) -> str:
    """What a rate allows: ``60 requests per minute``."""
    amount = amount_of(rate)
    what = "request" if rate.measure == REQUESTS and rate.tokens == 1 else rate.measure
    return f"{amount} {what} per {rate.period or formatting.period(rate.period_ms)}"


def amount_of(rate: Rate) -> str:
    """The tokens of a rate, and its burst if it differs: ``300 (burst 100)``."""
    burst = "" if rate.burst == rate.tokens else f" (burst {formatting.number(rate.burst)})"
    return f"{formatting.number(rate.tokens)}{burst}"


def allowances(plan: Plan) -> str:
    """All that a plan allows: ``60 requests per minute and 5 requests in flight``."""
    parts = [allowance(rate) for rate in plan.rates]
    if plan.concurrency is not None:
        parts.append(f"{formatting.count(plan.concurrency.slots, 'request')} in flight")
    if not parts:
        return "no limits"
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _zone(rate: Rate) -> tzinfo:
    return UTC if rate.timezone == "UTC" else ZoneInfo(rate.timezone)


def _zone_note(rate: Rate) -> str:
    """The pages are in UTC, so only another time zone is named."""
    return "" if rate.timezone == "UTC" else f" ({rate.timezone.replace('_', ' ')} time)"


def _date(at: datetime, rate: Rate) -> str:
    day = f"{at.day} {formatting.month(at.month)}"
    if rate.period == "week":
        return f"{formatting.weekday(at.isoweekday())}, {day}"
    return f"{day} {at.year}" if rate.period == "year" else day
