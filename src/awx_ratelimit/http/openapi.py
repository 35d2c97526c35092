"""Adds rate limits to an OpenAPI document: the security scheme of the key, and the 401 and 429 of each operation."""

from collections.abc import Callable
from typing import Any

from awx_ratelimit.http import limit_headers

_SCHEME = "ApiKey"
_ERROR = "RateLimitError"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def describe(document: dict[str, Any], is_exempt: Callable[[str, str], bool]) -> None:
    """Add the scheme and the responses to `document`, in place. A second call changes nothing.

    Operations for which ``is_exempt(method, path)`` is true stay unchanged.
    """
    components = document.setdefault("components", {})
    components.setdefault("securitySchemes", {})[_SCHEME] = {
        "type": "apiKey",
        "in": "header",
        "name": limit_headers.KEY_HEADER.decode().title(),
    }
    components.setdefault("schemas", {})[_ERROR] = _error_schema()
    for path, operations in document.get("paths", {}).items():
        for method, operation in operations.items():
            if method in _METHODS and not is_exempt(method.upper(), path):
                _describe_operation(operation)


def _describe_operation(operation: dict[str, Any]) -> None:
    security = operation.setdefault("security", [])
    if {_SCHEME: []} not in security:
        security.append({_SCHEME: []})
    responses = operation.setdefault("responses", {})
    for status, description, headers in limit_headers.documented_responses():
        responses.setdefault(
            str(status),
            {
                "description": description,
                "headers": {name: {"schema": {"type": kind}} for name, kind in headers},
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_ERROR}"}}},
            },
        )


def _error_schema() -> dict[str, Any]:
    names = ("code", "type", "message")
    return {"type": "object", "required": list(names), "properties": {name: {"type": "string"} for name in names}}
