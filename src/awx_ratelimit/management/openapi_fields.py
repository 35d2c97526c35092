"""The fields of keys, accounts and their usage in the OpenAPI documents of the REST APIs, with what they mean. Pure."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from awx_ratelimit.core.limit_schema import MAX_TIMES
from awx_ratelimit.keys.models import ACTIONS, KeyStatus
from awx_ratelimit.keys.operator_reports import STATUSES
from awx_ratelimit.keys.validation import (
    GRACE_SECONDS,
    MAX_DAYS,
    MAX_GRACE_SECONDS,
    MAX_NAME_CHARACTERS,
    MAX_SUBJECT_CHARACTERS,
    MAX_UNTRIMMED_CHARACTERS,
    NAME_PATTERN,
    SUBJECT_PATTERN,
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
    "name": says(TEXT, "The name that the owner gave the key."),
    "prefix": says(TEXT, "The masked key, as lists and logs show it: its prefix and its last four characters."),
}
KEY_STATE: Final[Mapping[str, Schema]] = {
    "status": says(
        choice(*get_args(KeyStatus)),
        "`rotated`: it has a successor, and works until its grace period ends at `expires_at`.",
    ),
    "expires_at": says(TIME_OR_NULL, "When the key stops working. null: never."),
}
_CREATED_AT: Final = says(TIME, "When the key was created.")
KEY: Final[Mapping[str, Schema]] = {
    **SHOWN_KEY,
    "created_at": _CREATED_AT,
    "last_used_at": says(TIME_OR_NULL, "When a request last used the key, accurate to 10 seconds. null: never."),
}
FOUND_KEY: Final[Mapping[str, Schema]] = {
    "account_id": says(TEXT, "The ID of the key's account."),
    "subject": says(
        TEXT, "The subject under which its requests are counted: the ID of the first key of its rotations."
    ),
    **KEY,
    "status": says(
        choice(*get_args(KeyStatus), "revoked", "suspended"),
        "Why its requests are refused: `revoked`, `expired`, or `suspended` with its account.",
    ),
    "expires_at": KEY_STATE["expires_at"],
    "revoked_at": says(TIME_OR_NULL, "When the key was revoked. null: it is not revoked."),
}
_SCOPE: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9_-]{1,32}$"}
RESET: Final[Mapping[str, Schema]] = {
    "subject": says(
        TEXT, "The subject of the caller: the ID of a key, `address:192.0.2.1`, or an account.",
        minLength=1, maxLength=MAX_SUBJECT_CHARACTERS, pattern=SUBJECT_PATTERN,
    ),
    "scope": says(_SCOPE, "Reset only this scope, such as `account` for the limits that all keys of an account share."),
}  # fmt: skip
WAS_RESET: Final[Mapping[str, Schema]] = {
    "subject": says(TEXT, "The subject that was reset. For a rotated key it is the first key, which all share."),
    "scope": says(_SCOPE | {"type": ["string", "null"]}, "The scope that was reset. null: all."),
    "was_counted": says({"type": "boolean"}, "Whether anything was counted. If not, the name may be misspelled."),
}
CREATED_KEY: Final[Mapping[str, Schema]] = {
    "id": SHOWN_KEY["id"],
    "name": SHOWN_KEY["name"],
    "key": says(TEXT, "The key itself. It is shown only here, so store it now."),
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
    integer(1, MAX_DAYS), "Number of days until the key expires. Without it, the key never expires."
)
GRACE: Final = says(
    integer(0, MAX_GRACE_SECONDS),
    "How long the old key keeps working. With 0, it stops at once.",
    default=GRACE_SECONDS,
)
LIMIT_USAGE: Final[Mapping[str, Schema]] = {
    "name": says(TEXT, "The name of the limit, such as `minute`, or `account.minute` for one that all keys share."),
    "measure": says(
        TEXT, "What it counts: `requests`, `concurrent-requests` for slots, or a measure such as `tokens`."
    ),
    "capacity": says(
        COUNT, "The largest amount that can be used at once: the burst of a rate, or the number of slots."
    ),
    "used": says(COUNT, "How much of the capacity is used, and never more than all of it."),
    "remaining": says(COUNT, "How much is left."),
    "reset_seconds": says(COUNT, "Seconds until the limit is full again if no request comes. 0 for slots."),
}
USAGE_PERIOD: Final[Mapping[str, Schema]] = {
    "begins_at": says(TIME, "When the hour or day begins."),
    "allowed": says(COUNT, "Requests that were allowed."),
    "refused": says(COUNT, "Requests that were refused."),
    "peak_concurrent": says(
        COUNT, "The largest number of requests of one key in progress at once. 0 if its plan has no slots."
    ),
    "costs": says(COUNTS, "The cost of the allowed requests, by measure."),
    "refusals": says(COUNTS, "Refusals by limit. Several limits may refuse one request."),
    "last_used_at": says(TIME_OR_NULL, "The time of the last request. null: there was none."),
}
ACCOUNT: Final[Mapping[str, Schema]] = {
    "id": says(TEXT, "The ID of the account."),
    "plan": says(TEXT_OR_NULL, "The name of the account's plan. null: the default plan of the plan table."),
    "overrides": says(OBJECT_OR_NULL, f"Limits of this account alone, {OVERRIDES_FORM}. null: none."),
    "temporary_override": says(
        {"oneOf": [{"$ref": "#/components/schemas/TemporaryOverride"}, {"type": "null"}]},
        "The temporary limits. null: there are none at the moment.",
    ),
    "status": says(choice(*STATUSES), "All keys of a suspended account are refused."),
    "max_keys": says(COUNT, "The maximum number of keys of the account."),
    "created_at": says(TIME, "When the account was created."),
}
TEMPORARY: Final[Mapping[str, Schema]] = {
    "overrides": says(OBJECT, f'The limits, {OVERRIDES_FORM}, or `{{"times": 2}}`.'),
    "until": says(TIME, "When the temporary limits end."),
}
LIMIT: Final[Mapping[str, Schema]] = {
    "name": LIMIT_USAGE["name"],
    "measure": LIMIT_USAGE["measure"],
    "limit": says(COUNT, "The number of tokens per period, or the number of slots."),
    "burst": says(COUNT, "The largest amount that can be used at once."),
    "shadow": says(FLAG, "Whether the limit is in shadow mode: it is evaluated and reported, and refuses nothing."),
}
EVENT: Final[Mapping[str, Schema]] = {
    "number": says(
        COUNT, "The number of the event. Later events have larger numbers. Pass it as `before` to list older events."
    ),
    "account_id": says(TEXT, "The account that was changed or reset, or whose key was."),
    "key_id": says(TEXT_OR_NULL, "The key that was changed or reset. null: the account itself."),
    "action": says(choice(*ACTIONS), "What was done."),
    "actor": says(TEXT_OR_NULL, "Who did it, such as `operator:` and the `sub` of a token. null: unknown."),
    "at": says(TIME, "When it was done."),
    "details": says(OBJECT, "The values before and after, or what was created or reset."),
}
TIMES_FACTOR: Final = says(
    {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMES},
    "The factor by which all limits are multiplied: 2 doubles them, 0.5 halves them.",
)
