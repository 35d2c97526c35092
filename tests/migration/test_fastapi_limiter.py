"""What docs/migration/fastapi-limiter.md says of fastapi-limiter without a scenario."""

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, Limiter, Rate
from starlette.testclient import TestClient
from tests.migration.sites import ADDRESS, AsgiSender

from awx_ratelimit.adapters.fastapi import limit


def nothing() -> list[str]:
    return []


def status(dependency: Any) -> int:
    """The status of a limited route, in an app that includes a router before it."""
    router = APIRouter(prefix="/teams")
    router.add_api_route("/members", nothing)
    app = FastAPI()
    app.include_router(router)
    app.add_api_route("/search", nothing, dependencies=[Depends(dependency)])
    with asyncio.Runner() as runner:
        return AsgiSender(app, runner.get_loop()).send("/search", "GET", ADDRESS, {}).status


def is_accepted(dependency: Any) -> bool:
    """Whether a WebSocket is accepted by an app with a dependency for all its routes."""
    app = FastAPI(dependencies=[Depends(dependency)])

    @app.websocket("/chat")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    try:
        with TestClient(app).websocket_connect("/chat"):
            return True
    except TypeError:
        return False


def rate_limiter() -> RateLimiter:
    """The limit of fastapi-limiter's own first example."""
    limiter = Limiter(Rate(5, Duration.MINUTE))
    # Ends its thread.
    limiter.dispose(limiter.buckets()[0])
    return RateLimiter(limiter)


def test_included_routers() -> None:
    """If an app includes a router, fastapi-limiter answers with a 500, and this library limits."""
    assert status(rate_limiter()) == 500
    assert status(limit("5/minute")) == 200


def test_websockets_of_an_app() -> None:
    """A dependency for all routes fails with fastapi-limiter for WebSockets, and works with this library."""
    assert is_accepted(rate_limiter()) is False
    assert is_accepted(limit("5/minute")) is True
