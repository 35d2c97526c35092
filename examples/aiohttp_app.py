"""An aiohttp app, limited as a whole, with its own limit on one handler.

    python -m aiohttp.web -H localhost -P 8080 examples.aiohttp_app:create_app
    curl -i -H 'X-API-Key: awx_demo_starter' localhost:8080/v1/search

A stream or a WebSocket holds one of the key's five slots until it ends or the client disconnects.
"""

import asyncio

from aiohttp import web

from awx_ratelimit import Rule
from awx_ratelimit.adapters.aiohttp import RateLimit, limit

routes = web.RouteTableDef()


@routes.get("/health")
async def health(_: web.Request) -> web.Response:
    """Exempt, so that a load balancer needs no key."""
    return web.json_response({"status": "ok"})


@routes.get("/v1/search")
@limit("5/minute")
async def search(_: web.Request) -> web.Response:
    """Five a minute for each caller, besides the caller's plan."""
    return web.json_response({"found": ["atlas", "borea"]})


@routes.get("/v1/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    """A minute of ticks."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b"tick\n")
        await asyncio.sleep(0.1)
    return response


@routes.get("/v1/feed")
async def feed(request: web.Request) -> web.WebSocketResponse:
    """Ticks until the client closes the WebSocket."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("tick")
    async for _ in socket:
        await socket.send_str("tick")
    return socket


def create_app(_: list[str] | None = None) -> web.Application:
    """Create the app. aiohttp passes the rest of the command line."""
    app = web.Application()
    RateLimit(
        app,
        keys={"awx_demo_starter": "starter", "awx_demo_growth": "growth"},
        rules=[Rule("/health", exempt=True)],
    )
    app.add_routes(routes)
    return app
