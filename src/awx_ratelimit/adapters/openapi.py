"""Adds API keys and limits to OpenAPI documents, in place. A second call changes nothing."""

from collections.abc import Callable
from typing import Any

from awx_ratelimit.http import limit_headers

_SCHEME = "ApiKey"
_ERROR = "RateLimitError"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def describe_gate(document: dict[str, Any], is_exempt: Callable[[str, str], bool]) -> None:
    """Add the security scheme, the 401 and the 429 to every operation that is not exempt."""
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


def describe_limit(document: dict[str, Any], path: str, method: str) -> None:
    """Add the 429 to one operation, if it is in the document."""
    operation = document.get("paths", {}).get(path, {}).get(method.lower())
    if operation is not None:
        document.setdefault("components", {}).setdefault("schemas", {})[_ERROR] = _error_schema()
        _add_responses(operation, limit_headers.documented_responses()[1:])


def _describe_operation(operation: dict[str, Any]) -> None:
    security = operation.setdefault("security", [])
    if {_SCHEME: []} not in security:
        security.append({_SCHEME: []})
    _add_responses(operation, limit_headers.documented_responses())


def _add_responses(operation: dict[str, Any], documented: limit_headers.DocumentedResponses) -> None:
    responses = operation.setdefault("responses", {})
    for status, description, headers in documented:
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
