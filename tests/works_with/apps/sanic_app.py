"""Sanic on an ASGI server."""

from typing import Any

from sanic import Request, Sanic
from sanic.response import HTTPResponse, text
from tests.works_with.limits import async_ticks, limited

_sanic: Any = Sanic("works_with", configure_logging=False)


@_sanic.get("/health", name="health")
@_sanic.get("/plain")
async def _plain(_: Request) -> HTTPResponse:
    return text("hello")


@_sanic.get("/stream")
async def _stream(request: Request) -> None:
    response: Any = await request.respond(content_type="text/plain")
    async for piece in async_ticks():
        await response.send(piece)


app = limited(_sanic)
