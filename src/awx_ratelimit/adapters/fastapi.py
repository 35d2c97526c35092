"""Adds API keys and rate limits to the OpenAPI document of a FastAPI app. It does not import FastAPI."""

from typing import Any

from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.openapi import describe


def document_limits(app: Any, gate: AsyncGate) -> None:
    """Show the key's security scheme, the 401 and the 429 in `app`'s OpenAPI document, except on exempt paths.

    Call it once, after you create the app. It also covers routes that are added later. Raises TypeError unless `app`
    is a FastAPI app and `gate` an AsyncGate.
    """
    if not isinstance(gate, AsyncGate) or not callable(getattr(app, "openapi", None)):
        raise TypeError(
            f"document_limits takes a FastAPI app and its AsyncGate, not {type_name(app)} and {type_name(gate)}; "
            "write document_limits(app, gate)"
        )
    generate = app.openapi

    def openapi() -> Any:
        document = generate()
        describe(document, gate.is_exempt)
        return document

    app.openapi = openapi
