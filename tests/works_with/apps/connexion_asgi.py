"""Connexion on ASGI."""

from connexion import AsyncApp
from starlette.responses import StreamingResponse
from tests.works_with.apps.connexion_document import document
from tests.works_with.limits import async_ticks, limited


async def plain() -> str:
    """Answer /plain."""
    return "hello"


async def health() -> str:
    """Answer /health."""
    return "healthy"


async def stream() -> StreamingResponse:
    """Answer /stream."""
    return StreamingResponse(async_ticks())


_connexion = AsyncApp(__name__)
_connexion.add_api(document(__name__))
app = limited(_connexion)
