"""Keys, their usage, the audit trail and the progress of a rotation, as the templates show them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from awx_ratelimit.console import formatting, limit_words
from awx_ratelimit.keys.models import ApiKey, Event
from awx_ratelimit.management.usage import KeyUsage, LimitUsage

#: Keys should be rotated at least every 90 days. A warning appears from day 75.
ROTATION_DAYS: Final = 90
ROTATION_WARNING_DAYS: Final = 75
UNUSED_DAYS: Final = 30
_State = Literal["done", "now", "later"]
_BUSY_SHARE, _FULL_SHARE = 0.75, 0.9
#: What an event of the audit trail is called, by its action.
EVENT_TITLES: Final = {
    "key.created": "Key created",
    "key.renamed": "Key renamed",
    "key.rotated": "Key rotated",
    "key.revoked": "Key deleted",
    "key.usage_reset": "Usage of a key reset",
    "account.created": "Account created",
    "account.plan_set": "Plan changed",
    "account.overrides_set": "Custom limits changed",
    "account.override_set": "Temporary limits set",
    "account.override_ended": "Temporary limits ended",
    "account.max_keys_set": "Maximum number of keys changed",
    "account.suspended": "Account suspended",
    "account.activated": "Account activated",
    "account.usage_reset": "Usage of the account reset",
}


@dataclass(frozen=True, slots=True)
class UsageBar:
    """The usage of one limit. The bar changes its colour at `busy_from` and `full_from`. `note`: when it resets."""

    limit: str
    label: str
    used: int
    capacity: int
    busy_from: float
    full_from: float
    text: str
    note: str


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


def key_row(key: ApiKey, usage: Mapping[str, KeyUsage] | None, now: datetime) -> KeyRow:
    """Describe a key. `usage` is by key id, or None if it is unknown."""
    key_usage = None if usage is None else usage.get(key.id)
    bars = None if key_usage is None else usage_bars(key_usage.limits)
    age_days = formatting.age_days(key.created_at, now)
    age = f"{formatting.count(age_days, 'day')} old" if age_days else "created today"
    return KeyRow(key, age, formatting.time_ago(key.last_used_at, now), flags(key, now), bars, key.status == "active")


def usage_bars(limits: Iterable[LimitUsage]) -> tuple[UsageBar, ...]:
    """Describe the usage of each limit."""
    return tuple(map(usage_bar, limits))


def usage_bar(limit: LimitUsage) -> UsageBar:
    """Describe the usage of one limit. One that is overdrawn is full."""
    usage = limit.usage
    used, capacity = usage.capacity - usage.remaining, usage.capacity
    label, text = limit_words.label(limit.rate), f"{formatting.number(used)} of {formatting.number(capacity)}"
    busy_from, full_from = capacity * _BUSY_SHARE, capacity * _FULL_SHARE
    return UsageBar(usage.limit, label, used, capacity, busy_from, full_from, text, limit_words.reset_note(limit))


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


@dataclass(frozen=True, slots=True)
class ActivityEntry:
    """One event of the audit trail. `subject` is the name or id of the key, empty for an event of the account."""

    title: str
    subject: str
    details: str
    actor: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class RotationStep:
    """One step of a rotation; `state` is its progress."""

    title: str
    text: str
    state: _State


def activity_entry(event: Event) -> ActivityEntry:
    """Describe an event."""
    fields = event.details
    subject, details = fields.get("name", ""), ""
    match event.action:
        case "key.created":
            details = f"{fields.get('masked', '')}{', replaces another key' if fields.get('rotated_from') else ''}"
        case "key.renamed":
            subject, details = fields.get("after", ""), f"previously {fields.get('before', '')}"
        case "key.rotated":
            subject, grace_seconds = event.key_id, fields["grace_period_seconds"]
            details = f"the old key stays valid for {formatting.duration(grace_seconds)}"
            details = details if grace_seconds else "the old key expired immediately"
        case "account.plan_set" | "account.max_keys_set":
            details = f"from {_or_default(fields.get('before'))} to {_or_default(fields.get('after'))}"
        case "key.usage_reset" | "account.usage_reset":
            subject, details = event.key_id or "", f"in the scope {scope}" if (scope := fields.get("scope")) else ""
        case "account.created":
            details = f"plan {_or_default(fields.get('plan'))}"
    title = EVENT_TITLES.get(event.action, event.action)
    return ActivityEntry(title, str(subject), str(details), event.actor, event.at)


def rotation_steps(old: ApiKey | None, new: ApiKey, now: datetime) -> tuple[RotationStep, ...]:
    """Describe the progress of a rotation from `old` to `new`. `old` is None after it has been deleted."""
    is_used, is_old_gone = new.last_used_at is not None, old is None or old.status == "expired"
    created = f"{new.masked} was created {formatting.time_ago(new.created_at, now)}."
    deploy = "Deploy the new key to your application's environment variables."
    verified: _State = "done" if is_used else "now" if is_old_gone else "later"
    deleted: _State = "done" if is_old_gone else "now" if is_used else "later"
    return (
        RotationStep("Create a new key", created, "done"),
        RotationStep("Update your application", deploy, "done" if is_used else "now"),
        RotationStep("Verify the new key works", _new_key_text(new, now), verified),
        RotationStep("Delete the old key", _old_key_text(old, new, now), deleted),
    )


def _new_key_text(new: ApiKey, now: datetime) -> str:
    if new.last_used_at is None:
        return "Confirm that API calls succeed. The new key has not been used yet."
    return f"The new key was last used {formatting.time_ago(new.last_used_at, now)}."


def _old_key_text(old: ApiKey | None, new: ApiKey, now: datetime) -> str:
    if old is None:
        return "The old key has been deleted."
    assert old.expires_at is not None  # a rotated key has an expiry
    if old.status == "expired":
        return f"The old key expired {formatting.time_ago(old.expires_at, now)}."
    text = f"The old key expires in {formatting.time_between(old.expires_at, now)}."
    if old.last_used_at is not None and old.last_used_at > new.created_at:
        text += f" It is still in use: its last request was {formatting.time_ago(old.last_used_at, now)}."
    return text


def _or_default(value: Any) -> str:
    return "default" if value is None else f"{value}"
