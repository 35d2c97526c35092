"""A Quart app, limited as a whole, with its own limit on one view.

    hypercorn examples.quart_app:app
    curl -i -H 'X-API-Key: awx_demo_starter' localhost:8000/v1/search

A stream or a WebSocket holds one of the key's five slots until it ends or the client disconnects.
"""

import asyncio
from collections.abc import AsyncIterator

from quart import Quart, websocket

from awx_ratelimit import RateLimitMiddleware, Rule
from awx_ratelimit.adapters.quart import limit

app = Quart(__name__)


@app.get("/health")
async def health() -> dict[str, str]:
    """Exempt, so that a load balancer needs no key."""
    return {"status": "ok"}


@app.get("/v1/search")
@limit("5/minute")
async def search() -> dict[str, list[str]]:
    """Five a minute for each caller, besides the caller's plan."""
    return {"found": ["atlas", "borea"]}


@app.get("/v1/stream")
async def stream() -> AsyncIterator[str]:
    """A minute of ticks."""
    return _ticks()


@app.websocket("/v1/feed")
async def feed() -> None:
    """Ticks until the client closes the WebSocket."""
    while True:
        await websocket.send("tick")
        await websocket.receive()


async def _ticks() -> AsyncIterator[str]:
    for _ in range(600):
        yield "tick\n"
        await asyncio.sleep(0.1)


app.asgi_app = RateLimitMiddleware(  # type: ignore[assignment,method-assign]  # as Quart documents it
    app.asgi_app,
    keys={"awx_demo_starter": "starter", "awx_demo_growth": "growth"},
    rules=[Rule("/health", exempt=True)],
)
