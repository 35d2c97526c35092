"""The OpenAPI 3.1 document of the REST API for keys: its calls, their fields and all their status codes. Pure."""

from typing import Any, Final

from awx_ratelimit.management import openapi_fields as fields
from awx_ratelimit.management.openapi_examples import EXAMPLES
from awx_ratelimit.management.openapi_fields import KEY_ID, Schema
from awx_ratelimit.management.openapi_parts import (
    call,
    document_of,
    list_of,
    object_of,
    optional_pages,
    queries,
    usage_history_call,
    usage_schemas,
)

_OF_KEY: Final = ["api_key_not_found"]
_CREATES: Final = ["api_key_not_active"]
_KEY: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The ID of a key of the account.",
    "schema": KEY_ID,
}


def document(base: str) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`."""
    return document_of(base, "API keys", "Create, rotate and revoke API keys.", _paths(), _schemas(), EXAMPLES)


def _paths() -> dict[str, Any]:
    pages = queries(optional_pages("all keys, up to 1,000"))
    return {
        "/api-keys": {
            "get": call("listApiKeys", "The account's keys, newest first", "ApiKeys", parameters=pages),
            "post": call(
                "createApiKey", "Create a key. Only this response contains it", "CreatedApiKey", 201, "NewApiKey",
                errors=_CREATES,
            ),
        },
        "/api-keys/{id}": {
            "parameters": [_KEY],
            "get": call("getApiKey", "One key", "ApiKey", errors=_OF_KEY),
            "patch": call("renameApiKey", "Rename a key", "ApiKey", 200, "Renaming", errors=_OF_KEY),
            "delete": call("revokeApiKey", "Revoke a key", None, 204, errors=_OF_KEY, is_limited=False),
        },
        "/api-keys/{id}/rotate": {
            "parameters": [_KEY],
            "post": call(
                "rotateApiKey", "Create the successor of a key. The old key works until its grace period ends",
                "CreatedApiKey", 201, "Rotation", required=False, errors=[*_OF_KEY, *_CREATES],
            ),
        },
        "/usage": {
            "get": call("getUsage", "What the account and its keys use of their limits now", "Usage", parameters=pages),
        },
        "/usage/history": {"get": usage_history_call(_OF_KEY)},
    }  # fmt: skip


def _schemas() -> dict[str, Schema]:
    new_key = {"name": fields.SENT_NAME, "expires_in_days": fields.EXPIRES_IN_DAYS}
    return {
        **usage_schemas(),
        "ApiKeys": list_of("ApiKey", "The keys, newest first."),
        "CreatedApiKey": object_of(fields.CREATED_KEY),
        "NewApiKey": object_of(new_key, "expires_in_days"),
        "Renaming": object_of({"name": fields.SENT_NAME}),
        "Rotation": object_of({"grace_period_seconds": fields.GRACE}, "grace_period_seconds"),
    }
