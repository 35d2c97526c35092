"""The OpenAPI 3.1 document of the REST API for keys: its calls, their fields and all their status codes. Pure."""

from typing import Any, Final

from awx_ratelimit.keys.validation import MAX_DAYS, MAX_GRACE_SECONDS, MAX_UNTRIMMED_CHARACTERS, NAME_PATTERN
from awx_ratelimit.management.openapi_parts import (
    KEY_ID,
    TEXT,
    TIME,
    Schema,
    call,
    document_of,
    integer,
    list_of,
    object_of,
    pages,
    usage_history_call,
    usage_schemas,
)

_NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_UNTRIMMED_CHARACTERS,
    "pattern": NAME_PATTERN,
}
_OF_KEY: Final = ["api_key_not_found"]
_CREATES: Final = ["api_key_not_active"]


def document(base: str) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`."""
    return document_of(base, "API keys", "Create, rotate and revoke API keys.", _paths(), _schemas())


def _paths() -> dict[str, Any]:
    key_id = [{"name": "id", "in": "path", "required": True, "schema": KEY_ID}]
    return {
        "/api-keys": {
            "get": call("listApiKeys", "The account's keys, newest first", "ApiKeys", parameters=pages()),
            "post": call(
                "createApiKey", "Create a key; only this response has it", "CreatedApiKey", 201, "NewApiKey",
                errors=_CREATES,
            ),
        },
        "/api-keys/{id}": {
            "parameters": key_id,
            "get": call("getApiKey", "One key", "ApiKey", errors=_OF_KEY),
            "patch": call("renameApiKey", "Rename a key", "ApiKey", 200, "Renaming", errors=_OF_KEY),
            "delete": call("revokeApiKey", "Revoke a key", None, 204, errors=_OF_KEY, is_limited=False),
        },
        "/api-keys/{id}/rotate": {
            "parameters": key_id,
            "post": call(
                "rotateApiKey", "Create the successor of a key; the old key works until its grace period ends",
                "CreatedApiKey", 201, "Rotation", required=False, errors=[*_OF_KEY, *_CREATES],
            ),
        },
        "/usage": {"get": call("getUsage", "What the account and its keys have used", "Usage", parameters=pages())},
        "/usage/history": {"get": usage_history_call(_OF_KEY)},
    }  # fmt: skip


def _schemas() -> dict[str, Schema]:
    created = {"id": KEY_ID, "name": TEXT, "key": TEXT, "prefix": TEXT, "created_at": TIME}
    return {
        **usage_schemas(),
        "ApiKeys": list_of("ApiKey"),
        "CreatedApiKey": object_of({**created, "last_used_at": {"type": "null"}}),
        "NewApiKey": object_of({"name": _NAME, "expires_in_days": integer(1, MAX_DAYS)}, "expires_in_days"),
        "Renaming": object_of({"name": _NAME}),
        "Rotation": object_of({"grace_period_seconds": integer(0, MAX_GRACE_SECONDS)}, "grace_period_seconds"),
    }
