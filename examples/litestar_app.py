"""A Litestar app, limited as a whole, with its own limit on one route, which its OpenAPI document shows.

    uvicorn examples.litestar_app:app
    curl -i -H 'X-API-Key: awx_demo_starter' localhost:8000/v1/search

A stream or a WebSocket holds one of the key's five slots until it ends or the client disconnects.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litestar import Controller, Litestar, WebSocket, get, websocket
from litestar.response import Stream

from awx_ratelimit import RateLimitMiddleware, Rule
from awx_ratelimit.adapters.litestar import limit


@get("/health")
async def health() -> dict[str, str]:
    """Exempt, so that a load balancer needs no key."""
    return {"status": "ok"}


class Agents(Controller):
    """Agents of the caller's account."""

    path = "/v1"

    @limit("5/minute")
    @get("/search")
    async def search(self) -> dict[str, list[str]]:
        """Five a minute for each caller, besides the caller's plan."""
        return {"found": ["atlas", "borea"]}

    @get("/stream")
    async def stream(self) -> Stream:
        """A minute of ticks."""
        return Stream(_ticks(), media_type="text/plain")


@websocket("/v1/feed")
async def feed(socket: WebSocket[Any, Any, Any]) -> None:
    """Ticks until the client closes the WebSocket."""
    await socket.accept()
    await socket.send_text("tick")
    async for _ in socket.iter_data(mode="text"):
        await socket.send_text("tick")


async def _ticks() -> AsyncIterator[str]:
    for _ in range(600):
        yield "tick\n"
        await asyncio.sleep(0.1)


litestar: Any = Litestar([health, Agents, feed])
app = RateLimitMiddleware(
    litestar,
    keys={"awx_demo_starter": "starter", "awx_demo_growth": "growth"},
    rules=[Rule("/health", exempt=True), Rule("/schema/**", exempt=True)],
)
