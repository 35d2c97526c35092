"""Errors about options name the class or the middleware as the user of a framework writes it."""

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from flask import Flask
from sanic import Sanic
from tornado.web import Application

from awx_ratelimit import InvalidLimit, RateLimitMiddleware, WsgiRateLimitMiddleware
from awx_ratelimit.adapters import aiohttp, django, fastapi, flask, grpc, litestar, quart, sanic, starlette, tornado

KEYS = {"awx_example_key": "starter"}
FRAMEWORKS = [aiohttp, django, fastapi, flask, litestar, quart, sanic, starlette, tornado]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never called."""


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    """An app that is never called."""
    return []


WAYS_IN: list[tuple[str, Callable[..., Any]]] = [
    ("RateLimitMiddleware", lambda **options: RateLimitMiddleware(asgi_app, **options)),
    ("WsgiRateLimitMiddleware", lambda **options: WsgiRateLimitMiddleware(wsgi_app, **options)),
    ("RateLimit", lambda **options: flask.RateLimit(Flask("shop"), **options)),
    ("RateLimit", flask.RateLimit),
    ("RateLimit", lambda **options: aiohttp.RateLimit(web.Application(), **options)),
    ("RateLimit", lambda **options: sanic.RateLimit(Sanic("option-names"), **options)),
    ("RateLimit", lambda **options: tornado.RateLimit(Application(), **options)),
    ("AsyncRateLimitInterceptor", grpc.AsyncRateLimitInterceptor),
    ("RateLimitInterceptor", grpc.RateLimitInterceptor),
]


@pytest.fixture(autouse=True)
def _forgotten_apps() -> Any:
    yield
    Sanic._app_registry.clear()


@pytest.mark.parametrize(("name", "make"), WAYS_IN)
def test_misspelled(name: str, make: Callable[..., Any]) -> None:
    """A misspelled option is an error that names the class, the option and its nearest match."""
    with pytest.raises(TypeError, match=f"^{name}: got the unknown option 'rulse'; write rules$"):
        make(keys=KEYS, rulse=[])


@pytest.mark.parametrize(("name", "make"), WAYS_IN)
def test_unknown(name: str, make: Callable[..., Any]) -> None:
    """An option that is like no other is an error with all options."""
    with pytest.raises(TypeError, match=f"^{name}: got the unknown option 'x'; write one of keys, identify, .*service"):
        make(keys=KEYS, x=1)


def test_several_with_a_gate() -> None:
    """Several unknown options are one error, which also comes before that of a gate that is not alone."""
    with pytest.raises(TypeError, match="got the unknown options 'Headers', 'max_drain_byte'; write headers, max_drai"):
        WsgiRateLimitMiddleware(wsgi_app, gate=object(), Headers="none", max_drain_byte=1)  # type: ignore[arg-type,call-arg]


def test_options_of_other_libraries() -> None:
    """An option that users know from other libraries is an error that says what to write here."""
    with pytest.raises(TypeError, match=r"^Wsgi.*: got the unknown option 'storage_uri'; write backend='redis:"):
        WsgiRateLimitMiddleware(wsgi_app, keys=KEYS, storage_uri="memory://")  # type: ignore[call-arg]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_options_of_routes(framework: Any) -> None:
    """An unknown option of `limit` is an error that says what to write, in every framework."""
    with pytest.raises(TypeError, match=r"^limit: got the unknown option 'key_func'; write per='address', or per="):
        framework.limit("5/minute", key_func=wsgi_app)
    with pytest.raises(TypeError, match=r"'exempt_when'; write cost=lambda request: 0 if \.\.\. else 1"):
        framework.limit("5/minute", exempt_when=wsgi_app)
    with pytest.raises(TypeError, match=r"^limit: got the unknown option 'scop'; write scope$"):
        framework.limit("5/minute", scop="search")
    with pytest.raises(TypeError, match=r"^limit: got the unknown option 'x'; write one of limit, per, cost, .*gate"):
        framework.limit("5/minute", x=1)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_several_rates(framework: Any) -> None:
    """Several rates in one text, as other libraries write them, are an error that says how to write a plan of them."""
    with pytest.raises(InvalidLimit, match=r"got 2 in '5/minute;100/hour'; write Plan\('limits', \(Rate\.parse\("):
        framework.limit("5/minute;100/hour")


@pytest.mark.parametrize(
    ("framework", "middleware"),
    [
        (aiohttp, "RateLimit(app, keys=...)"),
        (django, "'awx_ratelimit.adapters.django.RateLimitMiddleware' in MIDDLEWARE"),
        (fastapi, "app.add_middleware(RateLimitMiddleware, keys=...)"),
        (flask, "RateLimit(app, keys=...)"),
        (litestar, "app = RateLimitMiddleware(app, keys=...)"),
        (quart, "app.asgi_app = RateLimitMiddleware(app.asgi_app, keys=...)"),
        (sanic, "RateLimit(app, keys=...)"),
        (starlette, "app.add_middleware(RateLimitMiddleware, keys=...)"),
        (tornado, "RateLimit(app, keys=...)"),
    ],
)
def test_needs_a_middleware(framework: Any, middleware: str) -> None:
    """`charge_on` without the middleware is an error that says how the framework's users write it."""
    decorator = framework.limit("5/minute", charge_on={401})
    limit = getattr(decorator, "limit", None) or decorator._limit
    bound = limit.bound("search", {})

    with pytest.raises(RuntimeError) as raised:
        bound.check_alone()

    assert str(raised.value).endswith(f"; write {middleware}")


def test_needs_a_middleware_in_flask() -> None:
    """The error reaches the user of Flask by a request."""
    app = Flask("shop")
    app.testing = True
    app.add_url_rule("/", view_func=flask.limit("5/minute", charge_on={401})(lambda: "ok"))

    with app.test_client() as client, pytest.raises(RuntimeError, match=r"write RateLimit\(app, keys=...\)$"):
        client.get("/")
