"""The form for temporary limits: when they may end, and what the submitted fields mean. Pure; times are in UTC."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from awx_ratelimit.console.operator.override_text import overrides_from
from awx_ratelimit.console.operator.words import moment
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.scanner import KeyFinder
from awx_ratelimit.keys.validation import MAX_DAYS

OTHER: Final = "other"
FIELDS: Final = ("times", "limits", "ends", "until")
_RELATIVE: Final = {
    "1-hour": ("In 1 hour", timedelta(hours=1)),
    "24-hours": ("In 24 hours", timedelta(days=1)),
    "7-days": ("In 7 days", timedelta(days=7)),
    "30-days": ("In 30 days", timedelta(days=30)),
}
_is_time = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?").fullmatch
_is_number = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?").fullmatch


class End(NamedTuple):
    """A choice of when temporary limits end: the value of the field, and its words."""

    value: str
    words: str


def ends(now: datetime) -> tuple[End, ...]:
    """The choices. Those with a date have it as their value, so it stays the same until the form is submitted."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday = midnight + timedelta(days=8 - now.isoweekday())
    month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    dates = [End(f"{at:%Y-%m-%dT%H:%M}", f"On {moment(at, now)}") for at in sorted({monday, month})]
    relative = [End(value, words) for value, (words, _) in _RELATIVE.items()]
    return (*relative[:2], dates[0], *relative[2:], *dates[1:], End(OTHER, "At another time"))


def temporary_from(fields: Mapping[str, str], now: datetime, finder: KeyFinder) -> tuple[Mapping[str, Any], datetime]:
    """The overrides in a submitted form, and their end. Raises InvalidKeyRequest for the first wrong field."""
    overrides = dict(overrides_from(fields["limits"], "limits", finder))
    times = fields["times"].strip()
    if times:
        if "times" in overrides:
            raise InvalidKeyRequest("times is in both fields", remedy="write it in one of them", field="limits")
        overrides["times"] = _times(times)
    if not overrides:
        remedy = "enter a number such as 2, or write limits below"
        raise InvalidKeyRequest("there is no limit to change", remedy=remedy, field="times")
    return overrides, _end(fields, now)


def _times(text: str) -> int | float:
    if not _is_number(text):
        raise InvalidKeyRequest("not a number", remedy="enter one such as 2 or 1.5", field="times")
    return float(text) if "." in text else int(text)


def _end(fields: Mapping[str, str], now: datetime) -> datetime:
    chosen, typed = fields["ends"], fields["until"].strip()
    if typed and chosen != OTHER:
        remedy = "choose “At another time”, or leave this field empty"
        raise InvalidKeyRequest("another end is chosen above", remedy=remedy, field="until")
    if chosen in _RELATIVE:
        return now + _RELATIVE[chosen][1]
    field = "until" if chosen == OTHER else "ends"
    at = _time(typed if chosen == OTHER else chosen, field)
    if at <= now:
        raise InvalidKeyRequest("this time has passed", remedy="choose a later one", field=field)
    if at > now + timedelta(days=MAX_DAYS):
        raise InvalidKeyRequest("this time is too late", remedy="choose one in the next ten years", field=field)
    return at


def _time(text: str, field: str) -> datetime:
    try:
        if _is_time(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        pass
    raise InvalidKeyRequest("not a date and time", remedy="enter one such as 2026-12-01T00:00", field=field)
