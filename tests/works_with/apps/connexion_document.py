"""The OpenAPI document from which both Connexion apps take their routes."""

from typing import Any


def document(module: str) -> dict[str, Any]:
    """Return a document whose functions `health`, `plain` and `stream` are in `module`."""
    return {
        "openapi": "3.0.3",
        "info": {"title": "works with", "version": "1"},
        "paths": {
            f"/{name}": {"get": {"operationId": f"{module}.{name}", "responses": {"200": {"description": "ok"}}}}
            for name in ("health", "plain", "stream")
        },
    }
