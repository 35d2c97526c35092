"""FastAPI's own document of an API: one call tells it of keys and limits. It needs no import of FastAPI."""

from typing import Any

from awx_ratelimit.web.gate import AsyncGate
from awx_ratelimit.web.openapi import describe


def document_limits(app: Any, gate: AsyncGate) -> None:
    """Show the key's security scheme, the 401 and the 429 in `app`'s OpenAPI document, but for exempt paths.

    Call it once, after the app is made; routes that are added later are described too.
    """
    generate = app.openapi

    def openapi() -> Any:
        document = generate()
        describe(document, gate.is_exempt)
        return document

    app.openapi = openapi
