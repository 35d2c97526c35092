"""The OpenAPI 3.1 document of the REST API: its calls, their fields and all their status codes. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.keys.validation import (
    MAX_DAYS,
    MAX_GRACE_SECONDS,
    MAX_PAGE_SIZE,
    MAX_UNTRIMMED_CHARACTERS,
    NAME_PATTERN,
)
from awx_ratelimit.management.usage_history import TIME_PATTERN

_Schema = dict[str, Any]
_TIME: Final[_Schema] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[_Schema] = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Final[_Schema] = {"type": "integer", "minimum": 0}
_COUNTS: Final[_Schema] = {"type": "object", "additionalProperties": _COUNT}
_NAME: Final[_Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_UNTRIMMED_CHARACTERS,
    "pattern": NAME_PATTERN,
}
_ID: Final[_Schema] = {"type": "string", "pattern": "^key_[0-9A-Za-z]{16}$"}
#: Errors of every call, and of calls with a body.
_ALWAYS: Final = (
    "invalid_request", "invalid_access_token", "access_token_required", "method_not_allowed", "key_store_unavailable",
)  # fmt: skip
_WITH_BODY: Final = ("request_timeout", "request_too_large", "unsupported_media_type")


def document(base: str) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "API keys", "version": "1", "description": "Create, rotate and revoke API keys."},
        "servers": [{"url": base or "/"}],
        "security": [{"AccessToken": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"AccessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": _schemas(),
        },
    }


def _paths() -> dict[str, Any]:
    pages = [_page_parameter("page_num", 1_000_000), _page_parameter("page_size", MAX_PAGE_SIZE)]
    key_id = [{"name": "id", "in": "path", "required": True, "schema": _ID}]
    return {
        "/api-keys": {
            "get": _call("listApiKeys", "The account's keys, newest first", "ApiKeys", parameters=pages),
            "post": _call("createApiKey", "Create a key; only this response has it", "CreatedApiKey", 201, "NewApiKey"),
        },
        "/api-keys/{id}": {
            "parameters": key_id,
            "get": _call("getApiKey", "One key", "ApiKey", of_key=True),
            "patch": _call("renameApiKey", "Rename a key", "ApiKey", 200, "Renaming", of_key=True),
            "delete": _call("revokeApiKey", "Revoke a key", None, 204, of_key=True),
        },
        "/api-keys/{id}/rotate": {
            "parameters": key_id,
            "post": _call(
                "rotateApiKey", "Create the successor of a key; the old key works until its grace period ends",
                "CreatedApiKey", 201, "Rotation", required=False, of_key=True,
            ),
        },
        "/usage": {
            "get": _call("getUsage", "What the account and its keys have used", "Usage", parameters=pages)
        },
        "/usage/history": {"get": _usage_history(pages)},
    }  # fmt: skip


def _usage_history(pages: list[_Schema]) -> dict[str, Any]:
    summary = "What the account, or one of its keys, has used in each hour or day, oldest first"
    time = {"type": "string", "pattern": TIME_PATTERN}
    schemas = {"key": _ID, "from": time, "to": time, **{name: {"type": "string", "enum": values} for name, values in
               (("by", ["hour", "day"]), ("format", ["json", "csv"]))}}  # fmt: skip
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]
    call = _call("getUsageHistory", summary, "UsageHistory", parameters=[*parameters, *pages])
    call["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    call["responses"]["404"] = _answer("Error", "Such as `api_key_not_found`.")
    return call


def _call(
    name: str,
    summary: str,
    answer: str | None,
    status: int = 200,
    body: str | None = None,
    *,
    required: bool = True,
    of_key: bool = False,
    parameters: list[_Schema] | None = None,
) -> dict[str, Any]:
    codes = [*_ALWAYS, *(_WITH_BODY if body else ()), *(["api_key_not_found"] if of_key else [])]
    call: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {str(status): _answer(answer, summary)},
    }
    if answer == "CreatedApiKey":
        codes.append("api_key_not_active")
    if answer:
        call["responses"] |= _limited()
    call["responses"] |= {
        str(error_responses.status_of(code)): _answer("Error", f"Such as `{code}`.") for code in codes
    }
    if body:
        call["requestBody"] = {"required": required, "content": _json(body)}
    if parameters:
        call["parameters"] = parameters
    return call


def _answer(schema: str | None, description: str) -> dict[str, Any]:
    return {"description": description} | ({} if schema is None else {"content": _json(schema)})


def _limited() -> dict[str, Any]:
    """Return the 429 response."""
    status, description, headers = limit_headers.documented_responses()[-1]
    described = {name: {"schema": {"type": kind}} for name, kind in headers}
    return {str(status): _answer("Error", description) | {"headers": described}}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _page_parameter(name: str, maximum: int) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": maximum}}


def _object(properties: Mapping[str, Any], *optional: str) -> _Schema:
    """Return the schema of an object with exactly these fields."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def _list_of(schema: str, **optional: _Schema) -> _Schema:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}
    page_fields = {"total": _COUNT, "has_more": {"type": "boolean"}}
    return _object({**optional, "data": items, **page_fields}, *optional, *page_fields)


def _schemas() -> dict[str, _Schema]:
    text = {"type": "string"}
    shown = {"id": _ID, "name": text, "prefix": text}
    limit = {"name": text, "measure": text, **dict.fromkeys(("capacity", "used", "remaining", "reset_seconds"), _COUNT)}
    limits = {"type": "array", "items": {"$ref": "#/components/schemas/LimitUsage"}}
    return {
        "ApiKey": _object({**shown, "created_at": _TIME, "last_used_at": _TIME_OR_NULL}),
        "ApiKeys": _list_of("ApiKey"),
        "CreatedApiKey": _object(
            {
                "id": _ID,
                "name": text,
                "key": text,
                "prefix": text,
                "created_at": _TIME,
                "last_used_at": {"type": "null"},
            }
        ),
        "NewApiKey": _object({"name": _NAME, "expires_in_days": _integer(1, MAX_DAYS)}, "expires_in_days"),
        "Renaming": _object({"name": _NAME}),
        "Rotation": _object({"grace_period_seconds": _integer(0, MAX_GRACE_SECONDS)}, "grace_period_seconds"),
        "Usage": _list_of("KeyUsage", account={"$ref": "#/components/schemas/AccountUsage"}),
        "AccountUsage": _object({"limits": limits}),
        "KeyUsage": _object({**shown, "plan": text, "limits": limits}),
        "LimitUsage": _object(limit),
        "UsageHistory": _object(
            {
                "by": {"type": "string", "enum": ["hour", "day"]},
                "data": {"type": "array", "items": {"$ref": "#/components/schemas/UsagePeriod"}},
                "total": _COUNT,
                "has_more": {"type": "boolean"},
            },
            "total",
            "has_more",
        ),
        "UsagePeriod": _object(
            {
                "begins_at": _TIME,
                **dict.fromkeys(("allowed", "refused", "peak_concurrent"), _COUNT),
                "costs": _COUNTS,
                "refusals": _COUNTS,
                "last_used_at": _TIME_OR_NULL,
            }
        ),
        "Error": _object({"code": text, "type": text, "message": text}),
    }


def _integer(minimum: int, maximum: int) -> _Schema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}
