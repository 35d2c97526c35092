"""Keys and plans as the templates show them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from awx_ratelimit.console import formatting
from awx_ratelimit.core.decision import Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.management.blocking_limiter import KeyUsage

#: Keys should be rotated at least every 90 days. A warning appears from day 75.
ROTATION_DAYS: Final = 90
ROTATION_WARNING_DAYS: Final = 75
UNUSED_DAYS: Final = 30
_BUSY_SHARE, _FULL_SHARE = 0.75, 0.9
_LABELS: Final = {CONCURRENT: "in flight", "minute": "this minute", "day": "today"}
_COLUMNS: Final = {60_000: "minute", 86_400_000: "day"}


@dataclass(frozen=True, slots=True)
class UsageBar:
    """The usage of one limit. The bar changes its colour at `busy_from` and `full_from`."""

    limit: str
    label: str
    used: int
    capacity: int
    busy_from: float
    full_from: float
    text: str


@dataclass(frozen=True, slots=True)
class Flag:
    """A note on the state of a key; `kind` selects its colour."""

    kind: Literal["calm", "amber", "red"]
    text: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key in the table and on its own page. `bars` is None if its usage is unknown."""

    key: ApiKey
    age: str
    last_used: str
    flags: tuple[Flag, ...]
    bars: tuple[UsageBar, ...] | None
    can_rotate: bool


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan in the table of plans. `is_own` marks the plan of the account."""

    name: str
    minute: str
    day: str
    concurrent: str
    other: str
    is_own: bool


def key_row(key: ApiKey, usage: Mapping[str, KeyUsage] | None, now: datetime) -> KeyRow:
    """Describe a key. `usage` is by key id, or None if it is unknown."""
    key_usage = None if usage is None else usage.get(key.id)
    bars = None if key_usage is None else tuple(map(usage_bar, key_usage.limits))
    age_days = formatting.age_days(key.created_at, now)
    age = f"{formatting.count(age_days, 'day')} old" if age_days else "created today"
    return KeyRow(key, age, formatting.time_ago(key.last_used_at, now), flags(key, now), bars, key.status == "active")


def usage_bar(usage: Usage) -> UsageBar:
    """Describe the usage of one limit."""
    used, capacity = usage.capacity - usage.remaining, usage.capacity
    return UsageBar(
        usage.limit,
        _LABELS.get(usage.limit, usage.limit),
        used,
        capacity,
        capacity * _BUSY_SHARE,
        capacity * _FULL_SHARE,
        f"{formatting.number(used)} of {formatting.number(capacity)}",
    )


def flags(key: ApiKey, now: datetime) -> tuple[Flag, ...]:
    """Describe the state of a key, and what its owner should do about it."""
    if key.status == "expired":
        return (Flag("red", "expired"),)
    if key.status == "rotated":
        assert key.expires_at is not None  # a rotated key has an expiry
        return (Flag("calm", f"rotated, expires in {formatting.time_between(key.expires_at, now)}"),)
    found = []
    age_days = formatting.age_days(key.created_at, now)
    if age_days >= ROTATION_DAYS:
        found.append(Flag("red", f"rotate: {age_days} days old"))
    elif age_days >= ROTATION_WARNING_DAYS:
        found.append(Flag("amber", f"rotate soon: {age_days} days old"))
    if key.last_used_at is None and age_days >= UNUSED_DAYS:
        found.append(Flag("amber", "never used"))
    elif key.last_used_at is not None and formatting.age_days(key.last_used_at, now) >= UNUSED_DAYS:
        found.append(Flag("amber", f"unused for {formatting.age_days(key.last_used_at, now)} days"))
    if key.expires_at is not None:
        found.append(Flag("calm", f"expires in {formatting.time_between(key.expires_at, now)}"))
    return tuple(found)


def plan_row(plan: Plan, own: Plan | None) -> PlanRow:
    """Describe a plan. `own` is the plan of the account, with its overrides applied."""
    rates = {_COLUMNS.get(rate.period_ms, ""): rate for rate in plan.rates}
    other = [rate for rate in plan.rates if rate.period_ms not in _COLUMNS]
    return PlanRow(
        plan.name,
        _rate(rates.get("minute")),
        _rate(rates.get("day")),
        formatting.number(plan.concurrency.slots) if plan.concurrency else "unlimited",
        ", ".join(f"{_rate(rate)} per {formatting.period(rate.period_ms)}" for rate in other),
        own is not None and plan.name == own.name,
    )


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "unlimited"
    burst = "" if rate.burst == rate.tokens else f" (burst {formatting.number(rate.burst)})"
    return f"{formatting.number(rate.tokens)}{burst}"
