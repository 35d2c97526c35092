"""Accounts, their limits and their audit trail in words for operators. Pure; times are in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from awx_ratelimit.console import formatting, limit_words, view_models
from awx_ratelimit.console.operator.override_text import line_of, text_of
from awx_ratelimit.console.view_models import Flag
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.keys.models import Account, Event

_TIMES: Final = "times"
#: Longer details of an event are cut.
_MAX_DETAIL_CHARACTERS: Final = 160


@dataclass(frozen=True, slots=True)
class LimitsView:
    """The limits of an account that are in force, and where they come from. `shared` is of all its keys together.

    `ends` is when the temporary limits end. Texts are empty if there is nothing to say.
    """

    each_key: str
    shared: str
    temporary: str
    temporary_text: str
    ends: str
    permanent_text: str


def limits_view(account: Account, plan: Plan | None, now: datetime) -> LimitsView:
    """Describe the limits of `account`. `plan` is its plan with its overrides; None if the table has none."""
    temporary = account.temporary
    words, text = ("", "") if temporary is None else _temporary_words(temporary.overrides)
    return LimitsView(
        "" if plan is None else limit_words.allowances(plan),
        "" if plan is None or plan.account is None else limit_words.allowances(plan.account),
        words,
        text,
        "" if temporary is None else moment(temporary.until, now),
        text_of(account.overrides),
    )


def _temporary_words(overrides: Mapping[str, Any]) -> tuple[str, str]:
    """What temporary limits do, and those that have to be read as text."""
    others = {key: value for key, value in overrides.items() if key != _TIMES}
    factor = overrides.get(_TIMES)
    if factor is None:
        return "These limits replace the usual ones of the same name:", text_of(others)
    words = f"All limits are multiplied by {factor}"
    return (f"{words}, and these replace the usual ones:" if others else f"{words}."), text_of(others)


def account_flags(account: Account, now: datetime) -> tuple[Flag, ...]:
    """Describe the state of an account."""
    flags = [Flag("red", "suspended")] if account.status == "suspended" else []
    if account.temporary is not None:
        flags.append(Flag("amber", f"temporary limits, {formatting.time_between(account.temporary.until, now)} left"))
    if account.overrides:
        flags.append(Flag("calm", "its own limits"))
    return tuple(flags)


def moment(at: datetime, now: datetime) -> str:
    """``Monday 1 December, 00:00 UTC``; with the year if it is not this one."""
    year = "" if at.year == now.year else f" {at.year}"
    day = f"{formatting.weekday(at.isoweekday())} {at.day} {formatting.month(at.month)}{year}"
    return f"{day}, {formatting.time_of_day(at)} UTC"


def wait(ms: int) -> str:
    """A wait in its largest unit, rounded up: ``1 second``, ``3 hours``."""
    seconds = -(-ms // 1_000)
    unit = next((unit for unit in (86_400, 3_600, 60) if seconds >= 2 * unit), 1)
    return formatting.duration(-(-seconds // unit) * unit)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event of the audit trail, in words. `subject` is the name or the id of a key."""

    title: str
    account_id: str
    subject: str
    details: str
    actor: str | None
    at: datetime


def audit_entry(event: Event) -> AuditEntry:
    """Describe an event of any account."""
    entry = view_models.activity_entry(event)
    details = entry.details or _override_details(event)
    return AuditEntry(entry.title, event.account_id, entry.subject, details, entry.actor, entry.at)


def _override_details(event: Event) -> str:
    after = event.details.get("after")
    match event.action:
        case "account.overrides_set":
            return _one_line(after) if isinstance(after, Mapping) else "removed"
        case "account.override_set" if isinstance(after, Mapping):
            return f"{_one_line(after.get('overrides', {}))}, until {_until(after.get('until'))}"
    return ""


def _one_line(overrides: Mapping[str, Any]) -> str:
    text = line_of(overrides)
    return text if len(text) <= _MAX_DETAIL_CHARACTERS else f"{text[:_MAX_DETAIL_CHARACTERS]}…"


def _until(text: Any) -> str:
    try:
        return formatting.date_and_time(datetime.fromisoformat(text))
    except (TypeError, ValueError):
        return str(text)
