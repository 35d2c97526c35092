"""Starlette."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.works_with.limits import async_ticks, limited


async def _plain(_: Request) -> Response:
    return PlainTextResponse("hello")


async def _stream(_: Request) -> Response:
    return StreamingResponse(async_ticks())


app = limited(Starlette(routes=[Route("/health", _plain), Route("/plain", _plain), Route("/stream", _stream)]))
