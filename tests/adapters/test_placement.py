"""The place of the middleware decides which responses have its headers, as docs/gate.md says."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, PlanTable, StaticKeys
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as WsgiRateLimitMiddleware

KEY = {"X-API-Key": "awx_example_key"}
KEYS = StaticKeys({"awx_example_key": "starter"})


async def broken(request: Any) -> None:
    raise RuntimeError("a bug")


def gate() -> AsyncGate:
    return AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=KEYS)


def fastapi() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/", broken, response_model=None)
    return app


def in_the_list_of_starlette() -> Any:
    return Starlette(routes=[Route("/", broken)], middleware=[Middleware(RateLimitMiddleware, gate=gate())])


def added_to_fastapi() -> Any:
    app = fastapi()
    app.add_middleware(RateLimitMiddleware, gate=gate())
    return app


def around_starlette() -> Any:
    return RateLimitMiddleware(Starlette(routes=[Route("/", broken)]), gate=gate())


def around_fastapi() -> Any:
    return RateLimitMiddleware(fastapi(), gate=gate())


@pytest.mark.parametrize(
    ("make", "reports"),
    [
        (around_starlette, True),
        (around_fastapi, True),
        (in_the_list_of_starlette, False),
        (added_to_fastapi, False),
    ],
)
def test_unhandled_exception(make: Callable[[], Any], reports: bool) -> None:
    """Around the whole app, the 500 has the headers; inside the framework's error handling it does not."""
    with TestClient(make(), raise_server_exceptions=False) as client:
        # FastAPI takes the parameter of the view from the query.
        response = client.get("/", params={"request": "1"}, headers=KEY)

    assert response.status_code == 500
    assert ("ratelimit" in response.headers) is reports


def test_unhandled_exception_in_flask() -> None:
    """Flask answers inside the middleware around `wsgi_app`, so the 500 has the headers."""
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: 1 / 0)  # type: ignore[arg-type]
    wsgi_gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=KEYS)
    app.wsgi_app = WsgiRateLimitMiddleware(app.wsgi_app, gate=wsgi_gate)  # type: ignore[method-assign]
    with app.test_client() as client, client.get("/", headers=KEY) as response:
        assert response.status_code == 500
        assert "RateLimit" in response.headers
