"""The parts of which the OpenAPI documents of the REST APIs are made. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.keys.validation import MAX_PAGE_SIZE
from awx_ratelimit.management.usage_history import TIME_PATTERN

Schema = dict[str, Any]
TEXT: Final[Schema] = {"type": "string"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
COUNTS: Final[Schema] = {"type": "object", "additionalProperties": COUNT}
KEY_ID: Final[Schema] = {"type": "string", "pattern": "^key_[0-9A-Za-z]{16}$"}
#: A time that a client sends.
SENT_TIME: Final[Schema] = {"type": "string", "pattern": TIME_PATTERN}
BY: Final[Schema] = {"type": "string", "enum": ["hour", "day"]}
#: Errors of every call, and of calls with a body.
_ALWAYS: Final = (
    "invalid_request", "invalid_access_token", "access_token_required", "method_not_allowed", "key_store_unavailable",
)  # fmt: skip
_WITH_BODY: Final = ("request_timeout", "request_too_large", "unsupported_media_type")


def document_of(
    base: str, title: str, description: str, paths: Mapping[str, Any], schemas: Mapping[str, Schema]
) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": description},
        "servers": [{"url": base or "/"}],
        "security": [{"AccessToken": []}],
        "paths": dict(paths),
        "components": {
            "securitySchemes": {"AccessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {**schemas, "Error": object_of({"code": TEXT, "type": TEXT, "message": TEXT})},
        },
    }


def call(
    name: str,
    summary: str,
    reply: str | None,
    status: int = 200,
    body: str | None = None,
    *,
    required: bool = True,
    errors: Sequence[str] = (),
    is_limited: bool = True,
    parameters: Sequence[Schema] = (),
) -> dict[str, Any]:
    """Return a call with its schemas of the reply and of the body, and the codes of its own `errors`."""
    responses = {str(status): answer(reply, summary)} | (_limited() if is_limited else {})
    for code in (*_ALWAYS, *(_WITH_BODY if body else ()), *errors):
        responses[str(error_responses.status_of(code))] = answer("Error", f"Such as `{code}`.")
    described: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    if body:
        described["requestBody"] = {"required": required, "content": _json(body)}
    if parameters:
        described["parameters"] = list(parameters)
    return described


def usage_history_call(errors: Sequence[str]) -> dict[str, Any]:
    """Return the call of the usage history."""
    summary = "What the account, or one of its keys, has used in each hour or day, oldest first"
    schemas = {"key": KEY_ID, "from": SENT_TIME, "to": SENT_TIME, "by": BY, "format": choice("json", "csv")}
    parameters = [*queries(schemas), *pages()]
    described = call("getUsageHistory", summary, "UsageHistory", errors=errors, parameters=parameters)
    described["responses"]["200"]["content"]["text/csv"] = {"schema": TEXT}
    return described


def usage_schemas() -> dict[str, Schema]:
    """Return the schemas of keys and what they use."""
    shown = {"id": KEY_ID, "name": TEXT, "prefix": TEXT}
    limit = {"name": TEXT, "measure": TEXT}
    limit |= dict.fromkeys(("capacity", "used", "remaining", "reset_seconds"), COUNT)
    period: Schema = {"begins_at": TIME, **dict.fromkeys(("allowed", "refused", "peak_concurrent"), COUNT)}
    period |= {"costs": COUNTS, "refusals": COUNTS, "last_used_at": TIME_OR_NULL}
    history = {"by": BY, "data": array_of("UsagePeriod"), **_PAGE_FIELDS}
    return {
        "ApiKey": object_of({**shown, "created_at": TIME, "last_used_at": TIME_OR_NULL}),
        "Usage": list_of("KeyUsage", account=reference("AccountUsage")),
        "AccountUsage": object_of({"limits": array_of("LimitUsage")}),
        "KeyUsage": object_of({**shown, "plan": TEXT, "limits": array_of("LimitUsage")}),
        "LimitUsage": object_of(limit),
        "UsageHistory": object_of(history, *_PAGE_FIELDS),
        "UsagePeriod": object_of(period),
    }


def answer(schema: str | None, description: str) -> dict[str, Any]:
    """Return a response."""
    return {"description": description} | ({} if schema is None else {"content": _json(schema)})


def queries(schemas: Mapping[str, Schema]) -> list[Schema]:
    """Return optional parameters of the query."""
    return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]


def pages() -> list[Schema]:
    """Return the parameters that choose a page."""
    return queries({"page_num": integer(1, 1_000_000), "page_size": integer(1, MAX_PAGE_SIZE)})


def object_of(properties: Mapping[str, Any], *optional: str) -> Schema:
    """Return the schema of an object with exactly these fields."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def list_of(schema: str, **optional: Schema) -> Schema:
    """Return the schema of a list, or of one of its pages. `optional` are further fields."""
    return object_of({**optional, "data": array_of(schema), **_PAGE_FIELDS}, *optional, *_PAGE_FIELDS)


def array_of(schema: str) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": reference(schema)}


def reference(schema: str) -> Schema:
    """Return the reference to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}


def choice(*values: str) -> Schema:
    """Return the schema of one of these texts."""
    return {"type": "string", "enum": list(values)}


def integer(minimum: int, maximum: int) -> Schema:
    """Return the schema of an integer."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def _limited() -> dict[str, Any]:
    status, description, headers = limit_headers.documented_responses()[-1]
    described = {name: {"schema": {"type": kind}} for name, kind in headers}
    return {str(status): answer("Error", description) | {"headers": described}}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": reference(schema)}}


_PAGE_FIELDS: Final[Mapping[str, Schema]] = {"total": COUNT, "has_more": {"type": "boolean"}}
