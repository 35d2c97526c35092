"""A Sanic app on Sanic's own server, limited as a whole, with its own limit on one handler.

    sanic examples.sanic_app:app --single-process
    curl -i -H 'X-API-Key: awx_demo_starter' localhost:8000/v1/search

A stream or a WebSocket holds one of the key's five slots until it ends or the client disconnects. The limits are in the
memory of the process, so it has one.
"""

import asyncio
from typing import Any

from sanic import HTTPResponse, Request, Sanic, json

from awx_ratelimit import Rule
from awx_ratelimit.adapters.sanic import RateLimit, limit

app = Sanic("agents")
RateLimit(
    app,
    keys={"awx_demo_starter": "starter", "awx_demo_growth": "growth"},
    rules=[Rule("/health", exempt=True)],
)


@app.get("/health")
async def health(_: Request) -> HTTPResponse:
    """Exempt, so that a load balancer needs no key."""
    return json({"status": "ok"})


@app.get("/v1/search")
@limit("5/minute")
async def search(_: Request) -> HTTPResponse:
    """Five a minute for each caller, besides the caller's plan."""
    return json({"found": ["atlas", "borea"]})


@app.get("/v1/stream")
async def stream(request: Request) -> None:
    """A minute of ticks."""
    response = await request.respond(content_type="text/plain")
    for _ in range(600):
        await response.send("tick\n")
        await asyncio.sleep(0.1)
    await response.eof()


@app.websocket("/v1/feed")  # type: ignore[untyped-decorator]
async def feed(_: Request, socket: Any) -> None:
    """Ticks until the client closes the WebSocket."""
    await socket.send("tick")
    async for _message in socket:
        await socket.send("tick")
