"""The parts of which the OpenAPI documents of the REST APIs are made. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.keys.validation import MAX_PAGE_SIZE
from awx_ratelimit.management import openapi_fields as fields
from awx_ratelimit.management.openapi_examples import Example
from awx_ratelimit.management.openapi_fields import BY, COUNT, FLAG, KEY_ID, SENT_TIME, TEXT, Schema, says

_FROM_TEXT: Final = (
    "The start of the range, in UTC: `2025-06-01` or `2025-06-01T10:00:00Z`, rounded down to a whole period. "
    "Default: 30 days before the end, or 24 hours with `by=hour`."
)
_TO_TEXT: Final = (
    "The end of the range, in UTC: the first day or hour after it, rounded up to a whole period. Default: now."
)
#: The parameters that choose the time of a report.
TIMES: Final[Mapping[str, Schema]] = {
    "from": says(SENT_TIME, _FROM_TEXT),
    "to": says(SENT_TIME, _TO_TEXT),
    "by": says(BY, "The length of a period.", default="day"),
}
#: Errors of every call, and of calls with a body.
_ALWAYS: Final = (
    "invalid_request", "invalid_access_token", "access_token_required", "method_not_allowed", "key_store_unavailable",
)  # fmt: skip
_WITH_BODY: Final = ("request_timeout", "request_too_large", "unsupported_media_type")


def document_of(
    base: str,
    title: str,
    description: str,
    paths: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    examples: Mapping[str, Example],
) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`. `examples` are those of its calls, by their name."""
    for calls in paths.values():
        for name, described in calls.items():
            if name != "parameters":
                _add_example(described, examples[described["operationId"]])
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": description},
        "servers": [{"url": base or "/"}],
        "security": [{"AccessToken": []}],
        "paths": dict(paths),
        "components": {
            "securitySchemes": {"AccessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {**schemas, "Error": object_of(_ERROR)},
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
        described["parameters"] = [dict(parameter) for parameter in parameters]
    return described


def usage_history_call(errors: Sequence[str]) -> dict[str, Any]:
    """Return the call of the usage history."""
    summary = "What the account or one of its keys has used, by hour or day, oldest first"
    form = says(
        fields.choice("json", "csv"),
        "The format of the response. By default, the header `Accept` decides; if it names neither, it is JSON.",
    )
    key = says(KEY_ID, "The ID of one key, which may be revoked. Without it, the response covers all keys together.")
    parameters = queries({"key": key, **TIMES, "format": form, **optional_pages("all periods")})
    described = call("getUsageHistory", summary, "UsageHistory", errors=errors, parameters=parameters)
    described["responses"]["200"]["content"]["text/csv"] = {"schema": TEXT}
    return described


def usage_schemas() -> dict[str, Schema]:
    """Return the schemas of keys and what they use."""
    limits = "The limits of the key and their current state."
    shared = says(
        reference("AccountUsage"), "What all keys of the account use together. It is absent if they share no limits."
    )
    key_usage = {
        **fields.SHOWN_KEY,
        **fields.KEY_STATE,
        "plan": says(TEXT, "The name of the plan of the key's account."),
        "limits": array_of("LimitUsage", limits),
    }
    history = {
        "by": says(BY, "The length of a period."),
        "data": array_of("UsagePeriod", "The periods."),
        **_PAGE_FIELDS,
    }
    return {
        "ApiKey": object_of(fields.KEY),
        "Usage": list_of("KeyUsage", "The keys, newest first.", account=shared),
        "AccountUsage": object_of({"limits": array_of("LimitUsage", "The limits that all keys of the account share.")}),
        "KeyUsage": object_of(key_usage),
        "LimitUsage": object_of(fields.LIMIT_USAGE),
        "UsageHistory": object_of(history, *_PAGE_FIELDS),
        "UsagePeriod": object_of(fields.USAGE_PERIOD),
    }


def answer(schema: str | None, description: str) -> dict[str, Any]:
    """Return a response."""
    return {"description": description} | ({} if schema is None else {"content": _json(schema)})


def queries(schemas: Mapping[str, Schema], *required: str) -> list[Schema]:
    """Return parameters of the query. All but the `required` ones are optional."""
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in schemas.items()
    ]


def pages() -> dict[str, Schema]:
    """Return the parameters that choose a page of a list that always has pages."""
    return {
        "page_num": says(fields.integer(1, 1_000_000), "The page number, from 1.", default=1),
        "page_size": says(fields.integer(1, MAX_PAGE_SIZE), "The maximum number of items per page.", default=20),
    }


def optional_pages(everything: str) -> dict[str, Schema]:
    """Return the parameters that choose a page of a list that is whole without them."""
    alone = f"Without `page_num` and `page_size`, the response has {everything}, and neither `total` nor `has_more`."
    return {
        "page_num": says(fields.integer(1, 1_000_000), f"The page number, from 1. {alone}"),
        "page_size": says(
            fields.integer(1, MAX_PAGE_SIZE), "The maximum number of items per page. 20 if only `page_num` is sent."
        ),
    }


def object_of(properties: Mapping[str, Any], *optional: str) -> Schema:
    """Return the schema of an object with exactly these fields."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def list_of(schema: str, items: str, **optional: Schema) -> Schema:
    """Return the schema of a list, or of one of its pages. `optional` are further fields."""
    return object_of({**optional, "data": array_of(schema, items), **_PAGE_FIELDS}, *optional, *_PAGE_FIELDS)


def array_of(schema: str, items: str) -> Schema:
    """Return the schema of an array. `items` says what is in it."""
    return {"type": "array", "items": reference(schema), "description": items}


def reference(schema: str) -> Schema:
    """Return the reference to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}


def _add_example(described: dict[str, Any], example: Example) -> None:
    for parameter in described.get("parameters", ()):
        if parameter["name"] in example.query:
            parameter["example"] = example.query[parameter["name"]]
    for part, value in ((described.get("requestBody"), example.body), (_success(described), example.reply)):
        if part is not None and value is not None:
            part["content"]["application/json"]["example"] = value


def _success(described: Mapping[str, Any]) -> Any:
    return next(response for status, response in described["responses"].items() if status < "300")


def _limited() -> dict[str, Any]:
    status, description, headers = limit_headers.documented_responses()[-1]
    described = {name: {"schema": {"type": kind}} for name, kind in headers}
    return {str(status): answer("Error", description) | {"headers": described}}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": reference(schema)}}


_PAGE_FIELDS: Final[Mapping[str, Schema]] = {
    "total": says(COUNT, "How many items all pages have together."),
    "has_more": says(FLAG, "Whether there is a next page."),
}
_ERROR: Final[Mapping[str, Schema]] = {
    "code": says(TEXT, "For programs: see the page of errors."),
    "type": says(TEXT, "The kind of error."),
    "message": says(TEXT, "For people. It names the field that is wrong, and what is expected."),
}
