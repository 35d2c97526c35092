"""What was done, in sentences, and how far a rotation is, in the four steps of the guide. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from awx_ratelimit.console import formatting
from awx_ratelimit.keys.models import ApiKey, Event

_DONE: Final = {
    "key.created": "Key created",
    "key.renamed": "Key renamed",
    "key.rotated": "Key rotated",
    "key.revoked": "Key deleted",
    "account.created": "Account created",
    "account.plan_set": "Plan changed",
    "account.overrides_set": "Own limits changed",
    "account.max_keys_set": "Number of keys changed",
    "account.suspended": "Account suspended",
    "account.activated": "Account activated",
}


@dataclass(frozen=True, slots=True)
class Line:
    """Something that was done: `what` of which `name`, `more` of it, by whom and when."""

    what: str
    name: str
    more: str
    key_id: str | None
    actor: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a rotation: ``done``, ``now`` or ``later``."""

    title: str
    text: str
    state: Literal["done", "now", "later"]


def line(event: Event) -> Line:
    """An event as the page of activity shows it."""
    said = event.details
    name, more = said.get("name", ""), ""
    match event.action:
        case "key.created":
            more = f"{said.get('masked', '')}{', successor of another' if said.get('rotated_from') else ''}"
        case "key.renamed":
            name, more = said.get("after", ""), f"was {said.get('before', '')}"
        case "key.rotated":
            name = event.key_id
            more = f"the old key is accepted for {formatting.lasting(said['grace_period_seconds'])} more"
            more = more if said["grace_period_seconds"] else "the old key ended at once"
        case "account.plan_set" | "account.max_keys_set":
            more = f"{_word(said.get('before'))} before, {_word(said.get('after'))} now"
        case "account.created":
            more = f"plan {_word(said.get('plan'))}"
    return Line(_DONE.get(event.action, event.action), str(name), str(more), event.key_id, event.actor, event.at)


def steps(old: ApiKey | None, new: ApiKey, now: datetime) -> tuple[Step, ...]:
    """How far a rotation is. `old` is None once it is deleted, and `new` its successor."""
    used = new.last_used_at is not None
    gone = old is None or old.status == "expired"
    return (
        Step("Create a new key", f"{new.masked} was made {formatting.ago(new.created_at, now)}.", "done"),
        Step(
            "Update your application",
            "Deploy the new key to your application's environment variables.",
            "done" if used else "now",
        ),
        Step("Verify the new key works", _seen(new, now), "done" if used else "later" if not gone else "now"),
        Step("Delete the old key", _left(old, new, now), "done" if gone else "now" if used else "later"),
    )


def _seen(new: ApiKey, now: datetime) -> str:
    if new.last_used_at is None:
        return "Confirm that API calls succeed with it. No call has come with it yet."
    return f"The last call with it came {formatting.ago(new.last_used_at, now)}."


def _left(old: ApiKey | None, new: ApiKey, now: datetime) -> str:
    if old is None:
        return "It is deleted."
    assert old.expires_at is not None  # it was rotated
    if old.status == "expired":
        return f"It ended {formatting.ago(old.expires_at, now)}."
    still = ""
    if old.last_used_at is not None and old.last_used_at > new.created_at:
        still = f" It was still used {formatting.ago(old.last_used_at, now)}."
    return f"It ends by itself in {formatting.distance(old.expires_at - now)}.{still}"


def _word(value: Any) -> str:
    return "default" if value is None else f"{value}"
