"""Adds API keys and rate limits to the OpenAPI document of a FastAPI app. It does not import FastAPI."""

from collections.abc import Callable
from typing import Any

from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http import limit_headers
from awx_ratelimit.http.gate import AsyncGate

_SCHEME = "ApiKey"
_ERROR = "RateLimitError"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def document_limits(app: Any, gate: AsyncGate) -> None:
    """Show the key's security scheme, the 401 and the 429 in `app`'s OpenAPI document, except on exempt paths.

    Call it once, after you create the app. It also covers routes that are added later. Raises TypeError unless `app`
    is a FastAPI app and `gate` an AsyncGate.
    """
    if not isinstance(gate, AsyncGate) or not callable(getattr(app, "openapi", None)):
        raise TypeError(
            f"document_limits: expected a FastAPI app and its AsyncGate, got {type_name(app)} and {type_name(gate)}"
        )
    generate = app.openapi

    def openapi() -> Any:
        document = generate()
        _describe(document, gate.is_exempt)
        return document

    app.openapi = openapi


def _describe(document: dict[str, Any], is_exempt: Callable[[str, str], bool]) -> None:
    """Add the scheme and the responses to `document`, in place. A second call changes nothing."""
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
