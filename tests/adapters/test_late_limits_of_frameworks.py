"""A limit above the decorator of a route is an error in every framework in which it can be there."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from fastapi import APIRouter, FastAPI
from flask import Blueprint, Flask
from quart import Quart
from sanic import Sanic
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.adapters import django_site

from awx_ratelimit import Plan, RateLimitMiddleware
from awx_ratelimit.adapters import aiohttp, fastapi, flask, ninja, quart, sanic, starlette

assert django_site.ENTRY
SEARCH = (
    r"^limit: expected @limit\(...\) between .* limits nothing: .*\.search; write @limit\(...\) below @app\.get\(...\)$"
)


@pytest.fixture(autouse=True)
def _forgotten_apps() -> Iterator[None]:
    yield
    Sanic._app_registry.clear()


def started(app: Any) -> None:
    """Start an ASGI app, and end it."""
    with TestClient(app):
        pass


def fastapi_app() -> Any:
    """With a router, whose routes are those of the app."""
    app, router = FastAPI(), APIRouter()

    @fastapi.limit("5/minute")
    @router.get("/search")
    async def search() -> None: ...

    app.include_router(router, prefix="/v1")
    return app


def behind_a_middleware() -> Any:
    """With a middleware inside of the app, and one around it."""
    app = fastapi_app()
    app.add_middleware(RateLimitMiddleware, keys={"awx_example_key": "starter"})
    return RateLimitMiddleware(app, anonymous=Plan.of("anonymous", per_minute=5))


def starlette_app() -> Any:
    """In an app that is mounted into another one."""
    inner = Starlette()

    def at_search(endpoint: Any) -> Any:
        inner.add_route("/search", endpoint)
        return endpoint

    @starlette.limit("5/minute")
    @at_search
    async def search(request: Any) -> PlainTextResponse:
        return PlainTextResponse("found")

    return Starlette(routes=[Mount("/v1", inner)])


@pytest.mark.parametrize("make", [fastapi_app, behind_a_middleware, starlette_app])
def test_asgi(make: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """An app of FastAPI or Starlette does not start, and answers no request if no server tells it of a start."""
    app = make()

    with pytest.raises(RuntimeError, match=SEARCH):
        started(app)
    with pytest.raises(RuntimeError, match=SEARCH):
        TestClient(app).get("/v1/search", headers={"X-API-Key": "awx_example_key"})
    assert "got it above both" in caplog.text


def test_lifespan() -> None:
    """The server learns why the app does not start."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match=SEARCH):
        asyncio.run(fastapi_app()({"type": "lifespan"}, receive, send))

    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert ".search; write @limit(...) below" in sent[0]["message"]


def test_meant_in_fastapi() -> None:
    """A function with a route without the limit, and one with it, has both."""
    app = FastAPI()

    async def search() -> None: ...

    app.get("/all")(search)
    app.get("/few")(fastapi.limit("1/minute")(search))
    client = TestClient(app)

    assert [client.get(path).status_code for path in ("/all", "/all", "/few", "/few")] == [200, 200, 200, 429]


def test_flask() -> None:
    """The first request of an app of Flask raises the error, and no request is answered."""
    app, shop = Flask("shop"), Blueprint("shop", "shop")
    app.testing = True

    @flask.limit("5/minute")
    @shop.get("/search")
    def search() -> str:
        return "found"

    app.register_blueprint(shop)

    for _ in range(2):
        with pytest.raises(RuntimeError, match=SEARCH):
            app.test_client().get("/search")


def test_quart() -> None:
    """In an app of Quart every request is a 500."""
    app = Quart("shop")

    @quart.limit("5/minute")
    @app.get("/search")
    async def search() -> str:
        return "found"

    async def statuses() -> list[int]:
        return [(await app.test_client().get("/search")).status_code for _ in range(2)]

    assert asyncio.run(statuses()) == [500, 500]


@pytest.mark.parametrize("route", ["get", "websocket"])
def test_sanic(route: str) -> None:
    """An app of Sanic does not start."""
    app = Sanic("late-limits")

    @sanic.limit("5/minute")
    @getattr(app, route)("/search")
    async def search(request: Any, *_: Any) -> None: ...

    with pytest.raises(RuntimeError, match=SEARCH):
        app.finalize()


def test_aiohttp() -> None:
    """An app of aiohttp does not start."""
    app, routes = web.Application(), web.RouteTableDef()

    @aiohttp.limit("5/minute")
    @routes.get("/search")
    async def search(request: web.Request) -> web.Response:
        return web.Response()

    app.add_routes(routes)

    with pytest.raises(RuntimeError, match=SEARCH):
        asyncio.run(web.AppRunner(app).setup())


def test_ninja() -> None:
    """The URLs of an API of django-ninja are refused."""
    from ninja import NinjaAPI

    api = NinjaAPI(urls_namespace="late-limits")

    @ninja.limit("5/minute")
    @api.get("/search")
    def search(request: Any) -> str:
        return "found"

    with pytest.raises(RuntimeError, match=SEARCH):
        list(api.urls[0])
