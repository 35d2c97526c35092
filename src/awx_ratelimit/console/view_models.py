"""Keys, plans and what was done to them, as a page shows them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from awx_ratelimit.console import formatting
from awx_ratelimit.core.decision import Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.management.usage import KeyUsage

#: Rotate at least every 90 days; a while before that it is said in amber.
OLD_DAYS: Final = 90
AGING_DAYS: Final = 75
UNUSED_DAYS: Final = 30
_BUSY, _FULL = 0.75, 0.9
_LABELS: Final = {CONCURRENT: "at once", "minute": "this minute", "day": "today"}
Level = Literal["calm", "busy", "full"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What was used of one limit. `busy_from` and `full_from` are where its colour changes."""

    limit: str
    label: str
    used: int
    capacity: int
    busy_from: float
    full_from: float
    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Flag:
    """Something to be done about a key: `kind` is its colour, ``calm``, ``amber`` or ``red``."""

    kind: Literal["calm", "amber", "red"]
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A key in the table, and on its own page; `bars` is None where its usage is not known."""

    key: ApiKey
    age: str
    last_used: str
    flags: tuple[Flag, ...]
    bars: tuple[Bar, ...] | None
    can_rotate: bool


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan in the table of plans."""

    name: str
    minute: str
    day: str
    concurrent: str
    other: str
    is_own: bool


def row(key: ApiKey, usage: Mapping[str, KeyUsage] | None, now: datetime) -> Row:
    """How a key stands at this moment."""
    used = None if usage is None else usage.get(key.id)
    bars = None if used is None else tuple(map(bar, used.limits))
    age_days = formatting.days(key.created_at, now)
    age = f"{formatting.counted(age_days, 'day')} old" if age_days else "made today"
    return Row(key, age, formatting.ago(key.last_used_at, now), flags(key, now), bars, key.status == "active")


def bar(usage: Usage) -> Bar:
    """What was used of a limit, of what it holds at once."""
    used, capacity = usage.capacity - usage.remaining, usage.capacity
    level: Level = "full" if used >= capacity * _FULL else "busy" if used >= capacity * _BUSY else "calm"
    return Bar(
        usage.limit,
        _LABELS.get(usage.limit, usage.limit),
        used,
        capacity,
        capacity * _BUSY,
        capacity * _FULL,
        level,
        f"{formatting.number(used)} of {formatting.number(capacity)}",
    )


def flags(key: ApiKey, now: datetime) -> tuple[Flag, ...]:
    """What should be done about it."""
    if key.status == "expired":
        return (Flag("red", "expired"),)
    if key.status == "rotated":
        assert key.expires_at is not None  # a rotated key has a grace, and so an end
        return (Flag("calm", f"rotated, ends in {formatting.distance(key.expires_at - now)}"),)
    found = []
    age_days = formatting.days(key.created_at, now)
    if age_days >= OLD_DAYS:
        found.append(Flag("red", f"rotate: {age_days} days old"))
    elif age_days >= AGING_DAYS:
        found.append(Flag("amber", f"rotate soon: {age_days} days old"))
    if key.last_used_at is None and age_days >= UNUSED_DAYS:
        found.append(Flag("amber", "never used"))
    elif key.last_used_at is not None and formatting.days(key.last_used_at, now) >= UNUSED_DAYS:
        found.append(Flag("amber", f"unused for {formatting.days(key.last_used_at, now)} days"))
    if key.expires_at is not None:
        found.append(Flag("calm", f"expires in {formatting.distance(key.expires_at - now)}"))
    return tuple(found)


def plan_row(plan: Plan, own: Plan | None) -> PlanRow:
    """A plan by its numbers; `own` is that of the account, which may have numbers of its own."""
    rates = {_column(rate): rate for rate in plan.rates}
    others = [f"{_rate(rate)} a {formatting.period(rate.period_ms)}" for rate in plan.rates if not _column(rate)]
    return PlanRow(
        plan.name,
        _rate(rates.get("minute")),
        _rate(rates.get("day")),
        formatting.number(plan.concurrency.slots) if plan.concurrency else "no limit",
        ", ".join(others),
        own is not None and plan.name == own.name,
    )


def _column(rate: Rate) -> str:
    return {60_000: "minute", 86_400_000: "day"}.get(rate.period_ms, "")


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "no limit"
    at_once = "" if rate.burst == rate.tokens else f", {formatting.number(rate.burst)} in a burst"
    return f"{formatting.number(rate.tokens)}{at_once}"
