"""The audit trail in sentences, and the progress of a rotation in four steps. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from awx_ratelimit.console import formatting
from awx_ratelimit.keys.models import ApiKey, Event

_TITLES: Final = {
    "key.created": "Key created",
    "key.renamed": "Key renamed",
    "key.rotated": "Key rotated",
    "key.revoked": "Key deleted",
    "account.created": "Account created",
    "account.plan_set": "Plan changed",
    "account.overrides_set": "Custom limits changed",
    "account.max_keys_set": "Maximum number of keys changed",
    "account.suspended": "Account suspended",
    "account.activated": "Account activated",
}


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
    state: Literal["done", "now", "later"]


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
        case "account.created":
            details = f"plan {_or_default(fields.get('plan'))}"
    title = _TITLES.get(event.action, event.action)
    return ActivityEntry(title, str(subject), str(details), event.actor, event.at)


def rotation_steps(old: ApiKey | None, new: ApiKey, now: datetime) -> tuple[RotationStep, ...]:
    """Describe the progress of a rotation from `old` to `new`. `old` is None after it has been deleted."""
    is_new_used = new.last_used_at is not None
    is_old_gone = old is None or old.status == "expired"
    return (
        RotationStep(
            "Create a new key", f"{new.masked} was created {formatting.time_ago(new.created_at, now)}.", "done"
        ),
        RotationStep(
            "Update your application",
            "Deploy the new key to your application's environment variables.",
            "done" if is_new_used else "now",
        ),
        RotationStep(
            "Verify the new key works",
            _new_key_text(new, now),
            "done" if is_new_used else "later" if not is_old_gone else "now",
        ),
        RotationStep(
            "Delete the old key",
            _old_key_text(old, new, now),
            "done" if is_old_gone else "now" if is_new_used else "later",
        ),
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
