"""BlackSheep."""

from collections.abc import AsyncIterator

from blacksheep import Application, Request, Response, StreamedContent, get, text
from tests.works_with.limits import async_ticks, limited

_blacksheep = Application()


@get("/health")
async def _health() -> Response:
    return text("healthy")


@get("/plain")
async def _plain() -> Response:
    return text("hello")


@get("/stream")
async def _stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in async_ticks():
            yield piece
            if await request.is_disconnected():
                return

    return Response(200, content=StreamedContent(b"text/plain", pieces))


app = limited(_blacksheep)
