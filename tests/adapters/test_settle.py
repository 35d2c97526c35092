"""`settle`, RateLimit-Cost, `charge_on` and slots of routes in every framework."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import flask
import litestar
import pytest
import quart
import sanic
from aiohttp import web
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from fastapi import Depends, FastAPI, Response
from fastapi import Request as FastApiRequest
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from tests.adapters.django_site import Site
from tests.adapters.loopback import Served, becomes
from tests.adapters.route_limit_laws import Get
from tests.adapters.settle_laws import LLM, SLOT, SettleLaws, left
from tests.adapters.settle_laws import LOGIN as LOGIN_OF_LAWS
from tests.adapters.test_aiohttp import AiohttpServed
from tests.adapters.test_django_route_limits import entry
from tests.adapters.test_route_limits import asgi_get, wsgi_get
from tests.adapters.test_sanic import SanicServed, new_app
from tests.adapters.test_tornado import TornadoServed
from tornado.web import Application, RequestHandler

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    RateLimitMiddleware,
    Rule,
    WsgiRateLimitMiddleware,
    settle,
)
from awx_ratelimit import Request as OurRequest
from awx_ratelimit.adapters import aiohttp as for_aiohttp
from awx_ratelimit.adapters import django as for_django
from awx_ratelimit.adapters import fastapi as for_fastapi
from awx_ratelimit.adapters import flask as for_flask
from awx_ratelimit.adapters import litestar as for_litestar
from awx_ratelimit.adapters import quart as for_quart
from awx_ratelimit.adapters import sanic as for_sanic
from awx_ratelimit.adapters import starlette as for_starlette
from awx_ratelimit.adapters import tornado as for_tornado
from awx_ratelimit.http.endings import OVER
from awx_ratelimit.testing import ManualClock

_Result = TypeVar("_Result")
STATUSES = {"denied": 401, "welcome": 200}
HEADERS = {"header": {"RateLimit-Cost": "tokens=300"}, "malformed": {"ratelimit-cost": "tokens=many"}}
TRIES: Any = {"scope": "tries", "per": "everyone", "charge_on": {401}}
SLOTS: Any = {"scope": "slot", "per": "everyone"}


async def chunks(request: Any) -> AsyncIterator[bytes]:
    """The body of ``/stream``."""
    yield b"o"
    settle(request, tokens=300)
    yield b"k"


def sync_chunks(request: Any) -> Iterator[bytes]:
    """The body of ``/stream``, for WSGI."""
    yield b"o"
    settle(request, {"tokens": 300})
    yield b"k"


class SettledLater(Served):
    """Frameworks whose responses end before all that follows them."""

    def becomes(self, value: Callable[[], _Result], expected: _Result) -> _Result:
        """Let the event loop run until it is so."""
        return self.run(becomes(value, expected))


class TestStarlette(SettleLaws):
    """Functions, one of them in a mounted app."""

    def app(self, gate: Any) -> Get:
        """The middleware is added to the app."""

        async def tokens(request: Request) -> PlainTextResponse:
            settle(request, tokens=300)
            return PlainTextResponse("ok")

        def plain(request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok", headers=HEADERS.get(request.url.path[1:]))

        async def stream(request: Request) -> StreamingResponse:
            return StreamingResponse(chunks(request))

        def status(request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok", STATUSES[request.path_params["name"]])

        @for_starlette.limit("2/minute", **TRIES)
        async def tries(request: Request) -> PlainTextResponse:
            return status(request)

        @for_starlette.limit(SLOT, **SLOTS)
        async def slot(_: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        routes = [
            Route("/stream", stream),
            *(Route(f"/{name}", plain) for name in ("header", "malformed", "nothing")),
            Route("/login/{name}", status),
            Route("/tries/{name}", tries),
            Route("/slot", slot),
            Mount("/", routes=[Route("/tokens", tokens)]),
        ]
        app = Starlette(routes=routes)
        app.add_middleware(for_starlette.RateLimitMiddleware, gate=gate)
        return asgi_get(app)


class TestFastApi(SettleLaws):
    """Dependencies, and functions in threads."""

    def app(self, gate: Any) -> Get:
        """The middleware is added to the app."""
        app = FastAPI()
        app.add_middleware(for_starlette.RateLimitMiddleware, gate=gate)

        @app.get("/tokens")
        def tokens(request: FastApiRequest) -> str:
            settle(request, tokens=300)
            return "ok"

        @app.get("/stream")
        async def stream(request: FastApiRequest) -> StreamingResponse:
            return StreamingResponse(chunks(request))

        @app.get("/login/{name}")
        async def login(name: str, response: Response) -> str:
            response.status_code = STATUSES[name]
            return "ok"

        app.get("/tries/{name}", dependencies=[Depends(for_fastapi.limit("2/minute", **TRIES))])(login)

        @app.get("/slot", dependencies=[Depends(for_fastapi.limit(SLOT, **SLOTS))])
        async def slot() -> str:
            return "ok"

        @app.get("/{name}")
        async def plain(name: str, response: Response) -> str:
            response.headers.update(HEADERS.get(name, {}))
            return "ok"

        return asgi_get(app)


class TestFlask(SettleLaws):
    """Views."""

    is_async = False

    def app(self, gate: Any) -> Get:
        """The extension limits the app."""
        app = flask.Flask("app")
        for_flask.RateLimit(app, gate=gate)

        @app.get("/tokens")
        def tokens() -> str:
            settle(flask.request, tokens=300)
            return "ok"

        @app.get("/stream")
        def stream() -> flask.Response:
            return flask.Response(sync_chunks(flask.request.environ))

        @app.get("/login/<name>")
        def login(name: str) -> tuple[str, int]:
            return "ok", STATUSES[name]

        @app.get("/tries/<name>")
        @for_flask.limit("2/minute", **TRIES)
        def tries(name: str) -> tuple[str, int]:
            return login(name)

        @app.get("/slot")
        @for_flask.limit(SLOT, **SLOTS)
        def slot() -> str:
            return "ok"

        @app.get("/<name>")
        def plain(name: str) -> tuple[str, dict[str, str]]:
            return "ok", HEADERS.get(name, {})

        return wsgi_get(app)


class TestQuart(SettleLaws):
    """Views."""

    def app(self, gate: Any) -> Get:
        """The middleware is around the app."""
        app = quart.Quart("app")

        @app.get("/tokens")
        async def tokens() -> str:
            settle(quart.request, tokens=300)
            return "ok"

        @app.get("/stream")
        async def stream() -> quart.Response:
            return quart.Response(chunks(quart.request.scope))

        @app.get("/login/<name>")
        async def login(name: str) -> tuple[str, int]:
            return "ok", STATUSES[name]

        @app.get("/tries/<name>")
        @for_quart.limit("2/minute", **TRIES)
        async def tries(name: str) -> tuple[str, int]:
            return "ok", STATUSES[name]

        @app.get("/slot")
        @for_quart.limit(SLOT, **SLOTS)
        async def slot() -> str:
            return "ok"

        @app.get("/<name>")
        async def plain(name: str) -> tuple[str, dict[str, str]]:
            return "ok", HEADERS.get(name, {})

        app.asgi_app = for_starlette.RateLimitMiddleware(app.asgi_app, gate=gate)  # type: ignore[assignment]
        return asgi_get(app)


class TestLitestar(SettleLaws):
    """Route handlers."""

    def app(self, gate: Any) -> Get:
        """The middleware is around the app."""

        @litestar.get("/tokens")
        async def tokens(request: litestar.Request[Any, Any, Any]) -> str:
            settle(request, tokens=300)
            return "ok"

        @litestar.get("/stream")
        async def stream(request: litestar.Request[Any, Any, Any]) -> Stream:
            return Stream(chunks(request))

        @litestar.get("/login/{name:str}")
        async def login(request: litestar.Request[Any, Any, Any]) -> litestar.Response[str]:
            return litestar.Response("ok", status_code=STATUSES[request.path_params["name"]])

        @for_litestar.limit("2/minute", **TRIES)
        @litestar.get("/tries/{name:str}")
        async def tries(request: litestar.Request[Any, Any, Any]) -> litestar.Response[str]:
            return litestar.Response("ok", status_code=STATUSES[request.path_params["name"]])

        @for_litestar.limit(SLOT, **SLOTS)
        @litestar.get("/slot")
        async def slot() -> str:
            return "ok"

        @litestar.get("/{name:str}")
        async def plain(request: litestar.Request[Any, Any, Any]) -> litestar.Response[str]:
            return litestar.Response("ok", headers=HEADERS.get(request.path_params["name"], {}))

        return asgi_get(
            for_starlette.RateLimitMiddleware(litestar.Litestar([tokens, stream, login, tries, slot, plain]), gate=gate)
        )


class TestAiohttp(SettledLater, AiohttpServed, SettleLaws):
    """Handlers."""

    def app(self, gate: Any) -> Get:
        """RateLimit limits the app."""
        app, routes = web.Application(), web.RouteTableDef()
        for_aiohttp.RateLimit(app, gate=gate)

        @routes.get("/tokens")
        async def tokens(request: web.Request) -> web.Response:
            settle(request, tokens=300)
            return web.Response(text="ok")

        @routes.get("/stream")
        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            async for chunk in chunks(request):
                await response.write(chunk)
            return response

        @routes.get("/login/{name}")
        async def login(request: web.Request) -> web.Response:
            return web.Response(text="ok", status=STATUSES[request.match_info["name"]])

        @routes.get("/slot")
        @for_aiohttp.limit(SLOT, **SLOTS)
        async def slot(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        @routes.get("/{name}")
        async def plain(request: web.Request) -> web.Response:
            return web.Response(text="ok", headers=HEADERS.get(request.match_info["name"]))

        app.router.add_get("/tries/{name}", for_aiohttp.limit("2/minute", **TRIES)(login))
        app.add_routes(routes)
        return self.get(app)

    def test_raising_handler(self, sends: Get, limiter: Limiter) -> None:
        """A handler that raises sets no status, so what depends on the status stays charged."""
        answers = [sends("/login/unknown", "alice").status for _ in range(2)]

        assert answers == [500, 500]
        assert self.becomes(lambda: left(limiter, "alice", LLM)[0], 58) == 58
        assert left(limiter, "everyone", LOGIN_OF_LAWS, "login") == [0]


class TestSanic(SettledLater, SanicServed, SettleLaws):
    """Handlers."""

    def app(self, gate: Any) -> Get:
        """RateLimit limits the app."""
        app = new_app()
        for_sanic.RateLimit(app, gate=gate)

        @app.get("/tokens")
        async def tokens(request: sanic.Request) -> sanic.HTTPResponse:
            settle(request, tokens=300)
            return sanic.text("ok")

        @app.get("/stream")
        async def stream(request: sanic.Request) -> None:
            response = await request.respond()
            async for chunk in chunks(request):
                await response.send(chunk)
            await response.eof()

        @app.get("/login/<name>")
        async def login(_: sanic.Request, name: str) -> sanic.HTTPResponse:
            return sanic.text("ok", status=STATUSES[name])

        @app.get("/tries/<name>")
        @for_sanic.limit("2/minute", **TRIES)
        async def tries(_: sanic.Request, name: str) -> sanic.HTTPResponse:
            return sanic.text("ok", status=STATUSES[name])

        @app.get("/slot")
        @for_sanic.limit(SLOT, **SLOTS)
        async def slot(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @app.get("/<name>")
        async def plain(_: sanic.Request, name: str) -> sanic.HTTPResponse:
            return sanic.text("ok", headers=HEADERS.get(name))

        return self.get(app)


class TestTornado(SettledLater, TornadoServed, SettleLaws):
    """Handlers."""

    def app(self, gate: Any) -> Get:
        """RateLimit limits the app."""

        class Tokens(RequestHandler):
            def get(self) -> None:
                settle(self, tokens=300)
                self.write("ok")

        class Streamed(RequestHandler):
            async def get(self) -> None:
                async for chunk in chunks(self.request):
                    self.write(chunk)
                    await self.flush()

        class Login(RequestHandler):
            def get(self, name: str) -> None:
                self.set_status(STATUSES[name])
                self.write("ok")

        class Tries(RequestHandler):
            @for_tornado.limit("2/minute", **TRIES)
            def get(self, name: str) -> None:
                self.set_status(STATUSES[name])
                self.write("ok")

        class Slot(RequestHandler):
            @for_tornado.limit(SLOT, **SLOTS)
            def get(self) -> None:
                self.write("ok")

        class Plain(RequestHandler):
            def get(self, name: str) -> None:
                for header, value in HEADERS.get(name, {}).items():
                    self.set_header(header, value)
                self.write("ok")

        app = Application(
            [
                ("/tokens", Tokens),
                ("/stream", Streamed),
                ("/login/(.*)", Login),
                ("/tries/(.*)", Tries),
                ("/slot", Slot),
                ("/(.*)", Plain),
            ]
        )
        for_tornado.RateLimit(app, gate=gate)
        return self.get(app)


def django_views(*, is_async: bool) -> dict[str, Any]:
    """The views of a site."""

    def tokens(request: HttpRequest) -> HttpResponse:
        settle(request, tokens=300)
        return HttpResponse("ok")

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(chunks(request) if is_async else sync_chunks(request))

    def login(_: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse("ok", status=STATUSES[name])

    @for_django.limit("2/minute", **TRIES)
    async def tries(_: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse("ok", status=STATUSES[name])

    @for_django.limit(SLOT, **SLOTS)
    def slot(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    def plain(_: HttpRequest, name: str) -> HttpResponse:
        return HttpResponse("ok", headers=HEADERS.get(name))

    return {
        "tokens": tokens,
        "stream": stream,
        "login/<name>": login,
        "tries/<name>": tries,
        "slot": slot,
        "<name>": plain,
    }


class TestDjangoOnWsgi(SettleLaws):
    """The middleware around Django."""

    is_async = False

    def app(self, gate: Any) -> Get:
        """Under WSGI."""
        return Site(django_views(is_async=False)).wsgi(lambda app: WsgiRateLimitMiddleware(app, gate=gate))


class TestDjangoOnAsgi(SettleLaws):
    """The middleware around Django."""

    def app(self, gate: Any) -> Get:
        """Under ASGI."""
        return Site(django_views(is_async=True)).asgi(lambda app: RateLimitMiddleware(app, gate=gate))


class TestDjangoInWsgiSettings(SettleLaws):
    """The entry of MIDDLEWARE."""

    is_async = False

    def app(self, gate: Any) -> Get:
        """Under WSGI."""
        return Site(django_views(is_async=False), **entry(gate)).wsgi()


class TestDjangoInAsgiSettings(SettleLaws):
    """The entry of MIDDLEWARE."""

    def app(self, gate: Any) -> Get:
        """Under ASGI."""
        return Site(django_views(is_async=True), **entry(gate)).asgi()


PLAN = Plan.of("p", per_minute=60)


@pytest.fixture
def limiter() -> Limiter:
    """Looks into the limits."""
    return Limiter(MemoryBackend(clock=ManualClock(1_000_000_000)))


def gate(limiter: Limiter, **options: Any) -> Gate:
    """A gate without keys."""
    return Gate(limiter, plans=PlanTable([PLAN]), identify=lambda _: None, anonymous=PLAN, **options)


def test_requests_can_cost_more(limiter: Limiter) -> None:
    """`settle` also corrects the requests of a plain plan, and the last value counts."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        settle(environ, requests=30)
        settle(OurRequest("GET", "/", None, lambda _: [], source=environ), requests=50)
        start_response("200 OK", [])
        return [b""]

    served = WsgiRateLimitMiddleware(app, gate=gate(limiter))
    body: Any = served({"REQUEST_METHOD": "GET", "REMOTE_ADDR": "192.0.2.1"}, lambda *_: None)
    before = left(limiter, "address:192.0.2.1", PLAN)
    body.close()

    assert before == [59]
    assert left(limiter, "address:192.0.2.1", PLAN) == [10]


def test_after_the_response(limiter: Limiter) -> None:
    """A background task of the response may still say what the request has cost."""

    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok", background=BackgroundTask(settle, request, requests=5))

    app = Starlette(routes=[Route("/", view)])
    served = RateLimitMiddleware(app, identify=lambda _: None, plans=[PLAN], anonymous=PLAN, backend=limiter.backend)
    asgi_get(served)("/")

    assert left(limiter, "address:192.0.2.1", PLAN) == [55]


def test_after_the_settlement(limiter: Limiter) -> None:
    """A background task of a response whose status has settled its request gets a RuntimeError."""
    raised: list[RuntimeError] = []

    def late(request: Request) -> None:
        try:
            settle(request, requests=5)
        except RuntimeError as error:
            raised.append(error)

    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok", background=BackgroundTask(late, request))

    served = RateLimitMiddleware(
        Starlette(routes=[Route("/login", view)]),
        plans=[PLAN],
        anonymous=PLAN,
        backend=limiter.backend,
        rules=[for_login(charge_on={401})],
    )
    asgi_get(served)("/login")

    assert "call settle before the response ends" in str(raised[0])
    assert left(limiter, "address:192.0.2.1", PLAN) == [59]


def test_two_gates(limiter: Limiter) -> None:
    """The cost in the header counts for all gates around the app, and the header is not sent."""
    sent: list[Any] = []
    inner = Limiter(MemoryBackend(clock=ManualClock(1_000_000_000)))

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"RateLimit-Cost", b"requests=7")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    served: Any = app
    for each in (inner, limiter):
        table, gates_limiter = PlanTable([PLAN]), AsyncLimiter(each.backend)
        own = AsyncGate(gates_limiter, plans=table, identify=lambda _: None, anonymous=PLAN)
        served = RateLimitMiddleware(served, gate=own)
    asyncio.run(served(scope, None, send))

    assert [left(each, "address:192.0.2.1", PLAN) for each in (inner, limiter)] == [[53], [53]]
    assert b"ratelimit-cost" not in {name.lower() for name, _ in sent[0]["headers"]}


def test_two_gates_on_wsgi(limiter: Limiter) -> None:
    """The cost in the header counts for all gates around the app, and the header is not sent."""
    started: list[Any] = []
    inner = Limiter(MemoryBackend(clock=ManualClock(1_000_000_000)))

    def app(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("RateLimit-Cost", "requests=7")])
        return [b""]

    served = WsgiRateLimitMiddleware(WsgiRateLimitMiddleware(app, gate=gate(inner)), gate=gate(limiter))
    body: Any = served({"REQUEST_METHOD": "GET", "REMOTE_ADDR": "192.0.2.1"}, lambda *start: started.append(start))
    body.close()

    assert [left(each, "address:192.0.2.1", PLAN) for each in (inner, limiter)] == [[53], [53]]
    assert "ratelimit-cost" not in {name.lower() for name, _ in started[0][1]}


def test_trailer(limiter: Limiter) -> None:
    """The header may come as a trailer, which is not sent."""
    sent: list[Any] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"ok"})
        trailers = [(b"RateLimit-Cost", b"requests=7"), (b"x-checksum", b"1")]
        await send({"type": "http.response.trailers", "headers": trailers})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    served: Any = RateLimitMiddleware(
        app, identify=lambda _: None, plans=[PLAN], anonymous=PLAN, backend=limiter.backend
    )
    asyncio.run(served(scope, None, send))

    assert sent[-1]["headers"] == [(b"x-checksum", b"1")]
    assert left(limiter, "address:192.0.2.1", PLAN) == [53]


def test_limit_after_the_end(limiter: Limiter) -> None:
    """A limited view that is called after the response keeps no slot, and nothing of it is kept for other requests."""
    after: list[Callable[[], Any]] = []
    app = flask.Flask("late")

    @for_flask.limit(SLOT, scope="slot", per="everyone")
    def view() -> str:
        return ""

    @app.get("/")
    def first() -> str:
        after.append(flask.copy_current_request_context(view))
        return ""

    app.wsgi_app = WsgiRateLimitMiddleware(app.wsgi_app, gate=gate(limiter))  # type: ignore[method-assign]
    app.test_client().get("/").close()
    after[0]()

    assert left(limiter, "everyone", SLOT, "slot") == [1]
    assert OVER.routes == []


def test_status_that_is_never_known(limiter: Limiter) -> None:
    """A request whose app raises before its response begins stays charged, and its charge is never given back."""

    def app(_: Any, __: Any) -> list[bytes]:
        raise ZeroDivisionError

    rules = [for_login(charge_on={401})]
    served = WsgiRateLimitMiddleware(app, gate=gate(limiter, rules=rules))
    with pytest.raises(ZeroDivisionError):
        served({"REQUEST_METHOD": "GET", "PATH_INFO": "/login", "REMOTE_ADDR": "192.0.2.1"}, lambda *_: None)

    assert left(limiter, "address:192.0.2.1", LOGIN, "login") == [4]


def test_whole_claim_charged_on_a_status(limiter: Limiter) -> None:
    """Without a budget, `charge_on` holds for all limits of the request."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response(environ["QUERY_STRING"] + " Status", [])
        return [b""]

    rules = [Rule("/login", charge_on={401})]
    served = WsgiRateLimitMiddleware(app, gate=gate(limiter, rules=rules))
    for status in ("200", "401", "200"):
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/login", "REMOTE_ADDR": "192.0.2.1", "QUERY_STRING": status,
        }  # fmt: skip
        body: Any = served(environ, lambda *_: None)
        body.close()

    assert left(limiter, "address:192.0.2.1", PLAN) == [59]


LOGIN = Plan.of("login", per_minute=5)


def for_login(**options: Any) -> Any:
    """A rule with a budget for each address."""
    return Rule("/login", budget="login", plan=LOGIN, per="address", **options)


def test_exempt_request(limiter: Limiter) -> None:
    """A request that is exempt has nothing to settle, and its header is removed as well."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        settle(environ, requests=5)
        start_response("200 OK", [("RateLimit-Cost", "requests=5"), ("X-A", "1")])
        return [b""]

    served = WsgiRateLimitMiddleware(app, gate=gate(limiter, rules=[Rule("/health", exempt=True)]))
    served({"REQUEST_METHOD": "GET", "PATH_INFO": "/health"}, lambda *start: started.append(start))

    assert started == [("200 OK", [("X-A", "1")])]


@pytest.mark.parametrize("request_", [None, 5, "request", object()])
def test_not_a_request(request_: Any) -> None:
    """Anything but a request raises TypeError."""
    with pytest.raises(TypeError, match="settle: expected a request, a scope or an environ, got"):
        settle(request_, tokens=5)


@pytest.mark.parametrize("source", [{"type": "http"}, {"REQUEST_METHOD": "GET"}])
def test_without_a_middleware(source: Any) -> None:
    """A request that no middleware has admitted raises RuntimeError."""
    with pytest.raises(RuntimeError, match="settle: expected a request that a middleware has admitted"):
        settle(source, tokens=5)


@pytest.mark.parametrize("cost", [{}, {"tokens": -1}, {"tokens": "5"}, -1, "5", 2**53 + 1])
def test_wrong_cost(cost: Any) -> None:
    """A wrong cost raises ValueError."""
    with pytest.raises(ValueError, match=r"expected a"):
        settle({}, cost)
