"""The fields of keys, accounts and their usage in the OpenAPI documents of the REST APIs, with what they mean. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.core.limit_schema import MAX_TIMES
from awx_ratelimit.keys.models import ACTIONS
from awx_ratelimit.keys.operator_reports import STATUSES
from awx_ratelimit.keys.validation import (
    GRACE_SECONDS,
    MAX_DAYS,
    MAX_GRACE_SECONDS,
    MAX_NAME_CHARACTERS,
    MAX_UNTRIMMED_CHARACTERS,
    NAME_PATTERN,
)
from awx_ratelimit.management.usage_history import TIME_PATTERN

Schema = dict[str, Any]
TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
OBJECT: Final[Schema] = {"type": "object"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
OBJECT_OR_NULL: Final[Schema] = {"type": ["object", "null"]}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
COUNTS: Final[Schema] = {"type": "object", "additionalProperties": COUNT}
#: A time that a client sends.
SENT_TIME: Final[Schema] = {"type": "string", "pattern": TIME_PATTERN}
KEY_ID: Final[Schema] = {"type": "string", "pattern": "^key_[0-9A-Za-z]{16}$"}
#: How a field of several objects is written.
OVERRIDES_FORM: Final = 'as in the `overrides` of a plan table, such as `{"per_minute": 600}`'


def says(schema: Schema, description: str, **more: Any) -> Schema:
    """Return a schema with what its field means, and with `more` keywords, such as a default."""
    return {**schema, "description": description, **more}


def integer(minimum: int, maximum: int) -> Schema:
    """Return the schema of an integer."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def choice(*values: str) -> Schema:
    """Return the schema of one of these texts."""
    return {"type": "string", "enum": list(values)}


BY: Final = choice("hour", "day")

SHOWN_KEY: Final[Mapping[str, Schema]] = {
    "id": says(KEY_ID, "The ID of the key."),
    "name": says(TEXT, "The name that its owner has given it."),
    "prefix": says(TEXT, "What lists and logs show of the key: its prefix and its last four characters."),
}
_CREATED_AT: Final = says(TIME, "When the key was created.")
KEY: Final[Mapping[str, Schema]] = {
    **SHOWN_KEY,
    "created_at": _CREATED_AT,
    "last_used_at": says(TIME_OR_NULL, "When a request last used the key, up to 10 seconds late. null: never."),
}
CREATED_KEY: Final[Mapping[str, Schema]] = {
    "id": SHOWN_KEY["id"],
    "name": SHOWN_KEY["name"],
    "key": says(TEXT, "The key itself. No later reply has it, so store it now."),
    "prefix": SHOWN_KEY["prefix"],
    "created_at": _CREATED_AT,
    "last_used_at": says({"type": "null"}, "Always null: no request has used the key yet."),
}
SENT_NAME: Final = says(
    TEXT,
    f"1 to {MAX_NAME_CHARACTERS} visible characters. White space around them is removed.",
    minLength=1,
    maxLength=MAX_UNTRIMMED_CHARACTERS,
    pattern=NAME_PATTERN,
)
EXPIRES_IN_DAYS: Final = says(
    integer(1, MAX_DAYS), "The key is refused after so many days. Without it, it never expires."
)
GRACE: Final = says(
    integer(0, MAX_GRACE_SECONDS),
    "How long the old key still works. 0: it is refused at once.",
    default=GRACE_SECONDS,
)
LIMIT_USAGE: Final[Mapping[str, Schema]] = {
    "name": says(TEXT, "The name of the limit, such as `minute`, or `account.minute` for one that all keys share."),
    "measure": says(
        TEXT, "What it counts: `requests`, `concurrent-requests` for slots, or a measure such as `tokens`."
    ),
    "capacity": says(COUNT, "The most that can be used at once: the burst of a rate, or the number of slots."),
    "used": says(COUNT, "How much of the capacity is used. A limit that is overdrawn shows all of it."),
    "remaining": says(COUNT, "How much is left."),
    "reset_seconds": says(COUNT, "After so many seconds without requests, all of it is left. 0 for slots."),
}
USAGE_PERIOD: Final[Mapping[str, Schema]] = {
    "begins_at": says(TIME, "When the hour or day begins."),
    "allowed": says(COUNT, "Requests that were allowed."),
    "refused": says(COUNT, "Requests that were refused."),
    "peak_concurrent": says(
        COUNT, "The most requests of one key that were in progress at once. 0 without slots in its plan."
    ),
    "costs": says(COUNTS, "What the allowed requests have cost, by measure."),
    "refusals": says(COUNTS, "Refusals by limit. Several limits may refuse one request."),
    "last_used_at": says(TIME_OR_NULL, "The time of the last request. null: there was none."),
}
ACCOUNT: Final[Mapping[str, Schema]] = {
    "id": says(TEXT, "The ID of the account."),
    "plan": says(TEXT_OR_NULL, "The name of its plan. null: the default of the plan table."),
    "overrides": says(OBJECT_OR_NULL, f"Its own limits, {OVERRIDES_FORM}. null: none."),
    "temporary_override": says(
        {"oneOf": [{"$ref": "#/components/schemas/TemporaryOverride"}, {"type": "null"}]},
        "The limits that hold for a time. null: none do now.",
    ),
    "status": says(choice(*STATUSES), "The keys of a suspended account are refused."),
    "max_keys": says(COUNT, "How many keys the account may have."),
    "created_at": says(TIME, "When the account was created."),
}
TEMPORARY: Final[Mapping[str, Schema]] = {
    "overrides": says(OBJECT, f'The limits, {OVERRIDES_FORM}, or `{{"times": 2}}`.'),
    "until": says(TIME, "When they end."),
}
LIMIT: Final[Mapping[str, Schema]] = {
    "name": LIMIT_USAGE["name"],
    "measure": LIMIT_USAGE["measure"],
    "limit": says(COUNT, "The tokens that refill in a period, or the number of slots."),
    "burst": says(COUNT, "The most that can be used at once."),
    "shadow": says(FLAG, "Whether it is only reported, and refuses nothing."),
}
EVENT: Final[Mapping[str, Schema]] = {
    "number": says(COUNT, "Numbers grow with time. The parameter `before` takes one."),
    "account_id": says(TEXT, "The account that it is about."),
    "key_id": says(TEXT_OR_NULL, "The key that it is about. null: the account itself."),
    "action": says(choice(*ACTIONS), "What was done."),
    "actor": says(TEXT_OR_NULL, "Who did it: `operator:` and the `sub` of a token, for example. null: unknown."),
    "at": says(TIME, "When it was done."),
    "details": says(OBJECT, "The values before and after, or what was created."),
}
TIMES_FACTOR: Final = says(
    {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMES},
    "A multiple of all limits: 2 doubles them, 0.5 halves them.",
)
