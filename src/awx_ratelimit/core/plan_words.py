"""The limits of a plan as commands print them, in words and in JSON. Pure."""

from collections.abc import Iterator
from typing import Final

from awx_ratelimit.core import durations
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, REQUESTS, Rate

#: What slots count, as in the field RateLimit-Policy.
_SLOTS: Final = "concurrent-requests"
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def limits(plan: Plan) -> Iterator[tuple[str, str]]:
    """The name of each limit of `plan`, without those of its account, and what it allows."""
    for rate in plan.rates:
        yield rate.name, _allowed(rate) + _shadow_note(plan, shadow=rate.shadow)
    if plan.concurrency:
        yield CONCURRENT, f"{plan.concurrency.slots} in flight{_shadow_note(plan, shadow=plan.concurrency.shadow)}"
    if plan.is_unlimited:
        yield "none", "everything"


def measures(plan: Plan) -> list[str]:
    """What each limit of `plan` counts, the slots last."""
    return [rate.measure for rate in plan.rates] + ([_SLOTS] if plan.concurrency else [])


def plan_fields(plan: Plan) -> dict[str, object]:
    """The fields of a plan in JSON. `period` is null for rates whose period has a fixed length."""
    slots = plan.concurrency and plan.concurrency.slots
    return {
        "name": plan.name,
        "rates": [_rate_fields(rate) | {"shadow": rate.shadow or plan.shadow} for rate in plan.rates],
        "concurrent": slots,
        "unlimited": plan.is_unlimited,
        "account": plan.account and plan_fields(plan.account),
    }


def _rate_fields(rate: Rate) -> dict[str, object]:
    return {
        "name": rate.name, "tokens": rate.tokens, "measure": rate.measure,
        "period_ms": None if rate.period else rate.period_ms, "period": rate.period,
        "anchor_day": rate.anchor_day, "anchor_month": rate.anchor_month, "timezone": rate.timezone,
        "burst": rate.burst, "refill": rate.refill,
    }  # fmt: skip


def _allowed(rate: Rate) -> str:
    amount = f"{rate.tokens}" if rate.measure == REQUESTS else f"{rate.tokens} {rate.measure}"
    if rate.period is not None:
        return f"{amount} per calendar {rate.period}, which begins {_beginning(rate)} ({rate.timezone})"
    period = durations.period(rate.period_ms)
    if rate.refill == "calendar":
        return f"{amount} per {period}, reset at each multiple of {durations.wait(rate.period_ms)} (UTC)"
    return f"{amount} per {period}, burst {rate.burst}; at most {rate.burst + rate.tokens} in any {period}"


def _beginning(rate: Rate) -> str:
    match rate.period:
        case "week":
            return f"on {_WEEKDAYS[rate.anchor_day - 1]} at midnight"
        case "month":
            return f"on day {rate.anchor_day} at midnight"
        case "year":
            return f"on day {rate.anchor_day} of month {rate.anchor_month} at midnight"
        case _:
            return "at midnight"


def _shadow_note(plan: Plan, *, shadow: bool) -> str:
    return " (shadow: evaluated, never refuses)" if shadow or plan.shadow else ""
