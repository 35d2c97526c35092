"""A second rate limit on one app, which would charge each request twice, is an error; on a mounted app it is not."""

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from fastapi import FastAPI
from flask import Flask
from sanic import Sanic
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from tests.adapters import django_site  # noqa: F401  # configures Django

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    MemoryBackend,
    Plan,
    PlanTable,
    RateLimitMiddleware,
    WsgiRateLimitMiddleware,
)
from awx_ratelimit.adapters import aiohttp, flask, sanic

KEYS = {"awx_example_key": "starter"}
TWICE = "limits already, and each request would be charged twice; write only one of them"


async def ok(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def starlette() -> Starlette:
    return Starlette(routes=[Route("/", ok)], middleware=[Middleware(RateLimitMiddleware, keys=KEYS)])


def gate() -> AsyncGate:
    return AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=lambda _: "alice")


def added_twice() -> Any:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, keys=KEYS)
    app.add_middleware(GZipMiddleware)
    app.add_middleware(RateLimitMiddleware, keys=KEYS)
    return TestClient(app).get("/")


def around_a_list() -> Any:
    return RateLimitMiddleware(starlette(), keys=KEYS)


def around_a_started_app() -> Any:
    app = starlette()
    TestClient(app).get("/")
    return RateLimitMiddleware(GZipMiddleware(app), keys=KEYS)


def around_flask() -> Any:
    app = Flask("shop")
    app.wsgi_app = WsgiRateLimitMiddleware(app.wsgi_app, keys=KEYS)  # type: ignore[method-assign]
    return flask.RateLimit(app, keys=KEYS)


def around_a_limited_flask() -> Any:
    app = Flask("shop")
    flask.RateLimit(app, keys=KEYS)
    return WsgiRateLimitMiddleware(app, keys=KEYS)


def two_for_flask() -> Any:
    app = Flask("shop")
    flask.RateLimit(app, keys=KEYS)
    return flask.RateLimit(app, keys=KEYS)


def two_for_aiohttp() -> Any:
    app = web.Application()
    aiohttp.RateLimit(app, keys=KEYS)
    return aiohttp.RateLimit(app, keys=KEYS)


def two_for_sanic() -> Any:
    try:
        app = Sanic("limited-once")
        sanic.RateLimit(app, keys=KEYS)
        return sanic.RateLimit(app, keys=KEYS)
    finally:
        Sanic._app_registry.clear()


@pytest.mark.parametrize(
    "make",
    [
        added_twice,
        around_a_list,
        around_a_started_app,
        around_flask,
        around_a_limited_flask,
        two_for_flask,
        two_for_aiohttp,
        two_for_sanic,
    ],
)
def test_second_limit(make: Callable[[], Any]) -> None:
    """A second rate limit on one app is an error, whatever is between the two."""
    with pytest.raises(TypeError, match=TWICE):
        make()


@pytest.mark.parametrize(("handler", "middleware"), [(ASGIHandler, "Asgi"), (WSGIHandler, "Wsgi")])
def test_around_django(handler: type[Any], middleware: str) -> None:
    """A middleware around Django, whose MIDDLEWARE has an entry, is an error that names the entry."""
    around = RateLimitMiddleware if middleware == "Asgi" else WsgiRateLimitMiddleware
    entries = ["awx_ratelimit.adapters.django.RateLimitMiddleware"]
    with override_settings(MIDDLEWARE=entries, AWX_RATELIMIT={"keys": KEYS}):
        made: Any = handler()
        made.load_middleware(is_async=middleware == "Asgi")

        with pytest.raises(TypeError, match=f"got one that the entry of MIDDLEWARE {TWICE}"):
            around(made, keys=KEYS)


def test_same_gate() -> None:
    """Two middlewares with one gate decide once."""
    app = Starlette(routes=[Route("/", ok)])
    same = AsyncGate(
        AsyncLimiter(MemoryBackend()),
        plans=PlanTable([Plan.of("p", per_minute=2)]),
        identify=lambda _: Caller("a", "p"),
    )
    app.add_middleware(RateLimitMiddleware, gate=same)

    client = TestClient(RateLimitMiddleware(app, gate=same))

    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


def test_two_gates() -> None:
    """Two gates of one's own on one app are meant: both decide."""
    app = Starlette(routes=[Route("/", ok)])
    app.add_middleware(RateLimitMiddleware, gate=gate())

    assert TestClient(RateLimitMiddleware(app, gate=gate())).get("/").status_code == 200


@pytest.mark.parametrize("outer", [{"anonymous": Plan.of("p", per_minute=2)}, {"identify": lambda _: "alice"}])
def test_other_clients(outer: dict[str, Any]) -> None:
    """A limit of addresses, or of what a function returns, around one of keys is meant: both decide."""
    client = TestClient(RateLimitMiddleware(starlette(), plans=[Plan.of("p", per_minute=2)], **outer))

    assert [client.get("/", headers={"X-API-Key": "awx_example_key"}).status_code for _ in range(3)] == [200, 200, 429]


def test_two_limits_of_flask() -> None:
    """Two limits of a Flask app that tell clients apart differently both decide, and each of them once."""
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "ok")
    by_key = flask.RateLimit(app, keys=KEYS)
    flask.RateLimit(app, plans=[Plan.of("p", per_minute=2)], identify=lambda _: "alice")
    by_key.init_app(app)
    client = app.test_client()

    def status() -> int:
        with client.get("/", headers={"X-API-Key": "awx_example_key"}) as response:
            return response.status_code

    assert [status() for _ in range(3)] == [200, 200, 429]
    assert app.extensions["awx_ratelimit"] is by_key


def test_mounted_app() -> None:
    """An app that is mounted into a limited one may have its own limit, and both decide."""
    inner = Starlette(routes=[Route("/", ok)])
    inner.add_middleware(RateLimitMiddleware, anonymous=Plan.of("inner", per_minute=1))
    app = Starlette(routes=[Mount("/inner", inner), Route("/", ok)])
    app.add_middleware(RateLimitMiddleware, anonymous=Plan.of("outer", per_minute=3))
    client = TestClient(app)

    statuses = [client.get(path).status_code for path in ("/inner/", "/inner/", "/", "/", "/")]

    assert statuses == [200, 429, 200, 429, 429]


def test_subapp_of_aiohttp() -> None:
    """A subapp of a limited aiohttp app may have its own limit."""
    app, sub = web.Application(), web.Application()
    aiohttp.RateLimit(app, keys=KEYS)
    aiohttp.RateLimit(sub, keys=KEYS)
    app.add_subapp("/sub", sub)


def test_again_for_flask() -> None:
    """`init_app` may be called again for the same app, and for another one."""
    limits, app = flask.RateLimit(keys=KEYS), Flask("shop")
    for each in (app, app, Flask("other")):
        limits.init_app(each)

    assert isinstance(app.wsgi_app, WsgiRateLimitMiddleware)
    assert not isinstance(app.wsgi_app.app, WsgiRateLimitMiddleware)
