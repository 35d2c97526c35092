"""The adapter of aiohttp: limits of the whole app, and `limit` on handlers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from tests.adapters.loopback import Served, fetched
from tests.adapters.route_limit_laws import PLAN, Answer, Get, RouteLimitLaws, identify
from websockets.asyncio.client import connect

from awx_ratelimit import AsyncGate, AsyncLimiter, Limiter, MemoryBackend, Plan, PlanTable, Request, Rule
from awx_ratelimit.adapters import aiohttp as for_aiohttp


class AiohttpServed(Served):
    """Runs aiohttp apps."""

    def port_of(self, app: web.Application) -> int:
        """The port on which the app is served."""
        runner = web.AppRunner(app)

        async def start() -> int:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return int(runner.addresses[0][1])

        self.closers.append(runner.cleanup)
        return self.run(start())

    def get(self, app: web.Application) -> Get:
        """Sends GETs to the app."""
        return self.getter(self.port_of(app))


class TestAiohttp(AiohttpServed, RouteLimitLaws):
    """Decorated handlers."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Functions, a method, a class of views and a method of one, one of them in a subapp."""
        app, routes, sub = web.Application(), web.RouteTableDef(), web.Application()
        if around is not None:
            for_aiohttp.RateLimit(app, gate=around)

        @routes.get("/one")
        @for_aiohttp.limit("2/minute", **limit)
        async def one(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        class Two:
            @for_aiohttp.limit("2/minute", **limit)
            async def two(self, _: web.Request) -> web.Response:
                return web.Response(text="ok")

        @routes.view("/both")
        @for_aiohttp.limit("3/minute", per="address", **limit)
        @for_aiohttp.limit("2/minute", **limit)
        class Both(web.View):
            async def get(self) -> web.Response:
                return web.Response(text="ok")

        @routes.view("/everyone")
        class Everyone(web.View):
            @for_aiohttp.limit("2/minute", per="everyone", **limit)
            async def get(self) -> web.Response:
                return web.Response(text="ok")

        @for_aiohttp.limit("2/minute", per="account", **limit)
        async def account(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        @routes.get("/costly")
        @for_aiohttp.limit("10/minute", cost=5, **limit)
        async def costly(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        @routes.get("/shared")
        @for_aiohttp.limit("2/minute", scope="shared", **limit)
        async def shared(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        @routes.get("/shared-too")
        @for_aiohttp.limit("2/minute", scope="shared", **limit)
        async def shared_too(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        @routes.get("/free")
        async def free(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        app.add_routes(routes)
        app.router.add_get("/two", Two().two)
        sub.router.add_get("", account)
        app.add_subapp("/account", sub)
        return self.get(app)


class TestRateLimit(AiohttpServed):
    """`RateLimit(app, ...)`."""

    @pytest.fixture
    def limiter(self) -> Limiter:
        """Looks into the limits."""
        return Limiter(MemoryBackend())

    @pytest.fixture
    def app(self, limiter: Limiter) -> web.Application:
        """An app with streams that end when the test says so."""
        app, backend = web.Application(), cast("Any", limiter.backend)
        plans, rules = PlanTable([PLAN], default="p"), [Rule("/free", exempt=True), Rule("/a/b", exempt=True)]
        gate = AsyncGate(AsyncLimiter(backend), plans=plans, identify=identify, rules=rules)
        for_aiohttp.RateLimit(app, gate=gate)
        self.begun, self.can_end = asyncio.Event(), asyncio.Event()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"RateLimit": "mine"})
            await response.prepare(request)
            async for chunk in chunks():
                await response.write(chunk)
            return response

        async def chunks() -> AsyncIterator[bytes]:
            self.begun.set()
            yield b"begun"
            await self.can_end.wait()
            yield b"ended"

        async def generated(_: web.Request) -> web.Response:
            return web.Response(body=chunks())

        async def broken(_: web.Request) -> web.Response:
            raise RuntimeError("a bug")

        async def free(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        routes = [("/stream", stream), ("/generated", generated), ("/broken", broken), ("/free", free)]
        app.add_routes([web.get(path, handler) for path, handler in routes])
        return app

    @staticmethod
    def slots(limiter: Limiter) -> int:
        """How many slots are free, of two."""
        return limiter.peek("alice", PLAN).usages[-1].remaining

    def test_without_a_key(self, app: web.Application) -> None:
        """A request without a key is a 401, also for a path that does not exist; an exempt path needs none."""
        get = self.get(app)

        assert [get(path).status for path in ("/stream", "/nothing", "/free")] == [401, 401, 200]

    @pytest.mark.parametrize("path", ["/a%2fb", "/a/%2e/b", "/free/../stream", "/%66ree/.", "http://x/stream"])
    def test_paths_that_are_not_exempt(self, app: web.Application, path: str) -> None:
        """A path that only resembles an exempt one needs a key."""
        assert self.get(app)(path).status == 401

    @pytest.mark.parametrize("path", ["/stream", "/generated"])
    def test_stream(self, app: web.Application, limiter: Limiter, path: str) -> None:
        """A stream reports the limits in one line of each field, and holds its slot until it ends."""
        port = self.port_of(app)

        async def scenario() -> tuple[Answer, int]:
            answer = asyncio.ensure_future(fetched(port, path, "alice", "192.0.2.1"))
            await self.begun.wait()
            held = self.slots(limiter)
            self.can_end.set()
            return await answer, held

        answer, held = self.run(scenario())
        assert answer.headers["ratelimit"].startswith('"minute";r=99;')
        assert "|" not in answer.headers["ratelimit"]
        assert answer.body.count(b"begun") == 1
        assert held == 1
        assert self.slots(limiter) == 2

    def test_exception(self, app: web.Application, limiter: Limiter) -> None:
        """The 500 of an unhandled exception reports the limits, and holds no slot."""
        answer = self.get(app)("/broken", "alice")

        assert answer.status == 500
        assert "ratelimit" in answer.headers
        assert self.slots(limiter) == 2

    def test_backend_of_a_url(self, tmp_path: Path) -> None:
        """A backend that is given as a URL is closed with the app."""
        app = web.Application()
        limits = for_aiohttp.RateLimit(app, keys={"k": "starter"}, backend=f"host://{tmp_path}/limits")
        get = self.get(app)

        assert get("/", "k").status == 404
        first = limits.gate
        self.run(cast("Any", self.closers.pop()()))
        again = self.get(app)
        assert again("/", "k").status == 404
        assert limits.gate is not first

    def test_accept_close(self) -> None:
        """With `accept_close` a refused WebSocket is accepted and closed with code 1013."""
        app = web.Application()
        for_aiohttp.RateLimit(app, keys={}, websocket_refusal="accept_close")
        port = self.port_of(app)

        async def close_code() -> int | None:
            async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as socket:
                await socket.wait_closed()
                return socket.close_code

        assert self.run(close_code()) == 1013

    def test_source(self) -> None:
        """An identifier reads the query as it was sent, items of the request, and the request itself."""
        app, found = web.Application(), []

        def read(request: Request) -> None:
            found.append((request.query("q"), request.source.path, request.header("x-api-key"), request.user))

        for_aiohttp.RateLimit(app, identify=read, anonymous=Plan.of("a", per_minute=1))
        self.get(app)("/a%20b?q=1%262&q=3", "k")

        assert found == [("1&2", "/a b", "k", None)]

    def test_two_with_one_gate(self, limiter: Limiter) -> None:
        """An app and its subapp with the same gate decide once."""
        outer, sub, backend = web.Application(), web.Application(), cast("Any", limiter.backend)
        gate = AsyncGate(AsyncLimiter(backend), plans=PlanTable([PLAN], default="p"), identify=identify)
        for app in (outer, sub):
            for_aiohttp.RateLimit(app, gate=gate)

        async def ok(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        sub.router.add_get("/ok", ok)
        outer.add_subapp("/sub", sub)

        assert self.get(outer)("/sub/ok", "alice").headers["ratelimit"].startswith('"minute";r=99;')
        assert limiter.peek("alice", PLAN).usages[0].remaining == 99

    def test_unix_socket(self, app: web.Application, tmp_path: Path) -> None:
        """Over a unix socket a client has no address, and keys work."""

        async def request() -> bytes:
            runner = web.AppRunner(app)
            self.closers.append(runner.cleanup)
            await runner.setup()
            await web.UnixSite(runner, str(tmp_path / "s")).start()
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"GET /nothing HTTP/1.1\r\nHost: a\r\nX-API-Key: alice\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        assert self.run(request()).startswith(b"HTTP/1.1 404")

    def test_no_app(self) -> None:
        """Anything but an app is an error."""
        with pytest.raises(TypeError, match=r"app: expected an aiohttp\.web\.Application, got"):
            for_aiohttp.RateLimit(cast("Any", web.RouteTableDef()), keys={})


class TestLimit(AiohttpServed):
    """What only aiohttp has."""

    def test_http_exception(self) -> None:
        """A raised HTTPException reports the limit without a RateLimit too."""
        app = web.Application()

        @for_aiohttp.limit("1/minute")
        async def raising(_: web.Request) -> web.Response:
            raise web.HTTPNotFound

        app.router.add_get("/", raising)

        assert self.get(app)("/", address="192.9.9.9").headers["ratelimit"] == '"raising.minute";r=0;t=60'

    @pytest.mark.parametrize("handler", [lambda _: None, dict])
    def test_not_a_handler(self, handler: Any) -> None:
        """A plain function, and a class that is no View, are errors."""
        with pytest.raises(TypeError, match=r"limit: expected an async function or a web.View, got"):
            for_aiohttp.limit("1/minute")(handler)
