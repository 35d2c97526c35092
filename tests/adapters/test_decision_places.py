"""Where a handler finds the decision of its request, in each framework, as docs/gate.md says."""

from typing import Any

import fastapi
import flask
import litestar
import quart
import sanic
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.adapters.route_limit_laws import Get
from tests.adapters.test_aiohttp import AiohttpServed
from tests.adapters.test_route_limits import asgi_get
from tests.adapters.test_sanic import SanicServed, new_app
from tests.adapters.test_tornado import TornadoServed
from tornado.web import Application, RequestHandler
from werkzeug.test import Client

from awx_ratelimit import RateLimitMiddleware, Rule, WsgiRateLimitMiddleware
from awx_ratelimit.adapters import aiohttp, tornado
from awx_ratelimit.adapters import sanic as for_sanic

KEY = "awx_example_key"
OPTIONS: dict[str, Any] = {"keys": {KEY: "starter"}, "rules": [Rule("/free", exempt=True)]}


def subject(decision: Any) -> str:
    """Whose decision it is: a key's, or nobody's."""
    return "exempt" if decision is None else str(decision.subject)[:4]


def check(get: Get) -> None:
    """The handler of a request with a key sees its decision, and that of an exempt request sees None."""
    bodies = [get("/limited", KEY).body, get("/free").body]

    assert bodies == [b"key_", b"exempt"]


class TestAiohttp(AiohttpServed):
    """aiohttp's own interface."""

    def test_request(self) -> None:
        """An item of the request, also in a subapp."""
        app, inner = web.Application(), web.Application()

        async def handler(request: web.Request) -> web.Response:
            return web.Response(text=subject(request[aiohttp.DECISION]))

        aiohttp.RateLimit(app, **OPTIONS)
        inner.router.add_get("", handler)
        app.router.add_get("/free", handler)
        app.add_subapp("/limited", inner)

        check(self.get(app))


class TestSanic(SanicServed):
    """Sanic's own server, and an ASGI server."""

    def test_context(self) -> None:
        """An attribute of the context of the request."""
        app = new_app()

        @app.get("/<name>")
        async def handler(request: sanic.Request, name: str) -> sanic.HTTPResponse:
            return sanic.text(subject(request.ctx.rate_limit))

        for_sanic.RateLimit(app, **OPTIONS)

        check(self.get(app))

    def test_asgi(self) -> None:
        """The state in the scope."""
        app = new_app()

        @app.get("/<name>")
        async def handler(request: sanic.Request, name: str) -> sanic.HTTPResponse:
            return sanic.text(subject(request.scope["state"]["rate_limit"]))

        with TestClient(RateLimitMiddleware(app, **OPTIONS)) as client:
            bodies = [client.get("/limited", headers={"X-API-Key": KEY}).text, client.get("/free").text]

        assert bodies == ["key_", "exempt"]


class TestTornado(TornadoServed):
    """Tornado."""

    def test_request(self) -> None:
        """An attribute of the request, also before the handler's own methods."""

        class Handler(RequestHandler):
            def prepare(self) -> None:
                self.whose = subject(vars(self.request)["rate_limit"])

            def get(self) -> None:
                self.write(self.whose)

        app = Application([("/limited", Handler), ("/free", Handler)])
        tornado.RateLimit(app, **OPTIONS)

        check(self.get(app))


def test_starlette() -> None:
    """An attribute of the request's state."""

    async def handler(request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(subject(request.state.rate_limit))

    app = Starlette(routes=[Route("/{name}", handler)])

    check(asgi_get(RateLimitMiddleware(app, **OPTIONS)))


def test_fastapi() -> None:
    """An attribute of the request's state."""
    app = fastapi.FastAPI()

    @app.get("/{name}")
    def handler(request: fastapi.Request, name: str) -> PlainTextResponse:
        return PlainTextResponse(subject(request.state.rate_limit))

    app.add_middleware(RateLimitMiddleware, **OPTIONS)

    check(asgi_get(app))


def test_quart() -> None:
    """The state in the scope."""
    app = quart.Quart(__name__)

    @app.get("/<name>")
    async def handler(name: str) -> str:
        return subject(quart.request.scope["state"]["rate_limit"])

    app.asgi_app = RateLimitMiddleware(app.asgi_app, **OPTIONS)  # type: ignore[method-assign, assignment]

    check(asgi_get(app))


def test_litestar() -> None:
    """The state in the scope."""

    @litestar.get(["/limited", "/free"])
    async def handler(request: litestar.Request[Any, Any, Any]) -> str:
        return subject(request.scope["state"]["rate_limit"])

    check(asgi_get(RateLimitMiddleware(litestar.Litestar([handler]), **OPTIONS)))


def test_flask() -> None:
    """An item of the request's environ."""
    app = flask.Flask(__name__)

    @app.get("/<name>")
    def handler(name: str) -> str:
        return subject(flask.request.environ["awx_ratelimit.decision"])

    app.wsgi_app = WsgiRateLimitMiddleware(app.wsgi_app, **OPTIONS)  # type: ignore[method-assign]
    client = Client(app)

    bodies = [client.get("/limited", headers={"X-API-Key": KEY}).text, client.get("/free").text]
    assert bodies == ["key_", "exempt"]
