"""Adds API keys and limits to OpenAPI documents, in place. A second call changes nothing."""

from collections.abc import Iterable
from typing import Any, Final

from awx_ratelimit.http import limit_headers
from awx_ratelimit.http.gate import AsyncGate

_KEY, _BEARER = "ApiKey", "BearerKey"
_KEY_SCHEME: Final = {"type": "apiKey", "in": "header", "name": limit_headers.KEY_HEADER_NAME}
_BEARER_SCHEME: Final = {"type": "http", "scheme": "bearer"}
_ERROR = "RateLimitError"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def describe_gate(document: dict[str, Any], gate: AsyncGate) -> None:
    """Add the security schemes, the 401 and the 429 to every operation that is not exempt."""
    components = document.setdefault("components", {})
    schemes = {_KEY: _KEY_SCHEME}
    if getattr(gate.parts.identify, "accepts_bearer", False):
        schemes[_BEARER] = _BEARER_SCHEME
    components.setdefault("securitySchemes", {}).update({name: dict(scheme) for name, scheme in schemes.items()})
    components.setdefault("schemas", {})[_ERROR] = _error_schema()
    for path, operations in document.get("paths", {}).items():
        for method, operation in operations.items():
            if method in _METHODS and not gate.is_exempt(method.upper(), path):
                _describe_operation(operation, schemes)


def describe_limit(document: dict[str, Any], path: str, method: str) -> None:
    """Add the 429 to one operation, if it is in the document."""
    operation = document.get("paths", {}).get(path, {}).get(method.lower())
    if operation is not None:
        document.setdefault("components", {}).setdefault("schemas", {})[_ERROR] = _error_schema()
        _add_responses(operation, limit_headers.documented_responses()[1:])


def _describe_operation(operation: dict[str, Any], schemes: Iterable[str]) -> None:
    security = operation.setdefault("security", [])
    # One of them is enough.
    security.extend({name: []} for name in schemes if {name: []} not in security)
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
