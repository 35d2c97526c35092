"""The adapter of Sanic: limits of the whole app on Sanic's own server, and `limit` on handlers."""

import asyncio
import socket
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import sanic
from sanic.exceptions import NotFound
from sanic.views import HTTPMethodView
from starlette.testclient import TestClient
from tests.adapters.loopback import Served, becomes, fetched
from tests.adapters.route_limit_laws import PLAN, Answer, Get, RouteLimitLaws, identify
from websockets.asyncio.client import connect

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    RateLimitMiddleware,
    Request,
    Rule,
)
from awx_ratelimit.adapters import sanic as for_sanic

_NUMBERS = count()


def new_app() -> Any:
    """An app with a name of its own, which Sanic demands, and a route, without which it does not start."""
    app: Any = sanic.Sanic(f"app-{next(_NUMBERS)}", configure_logging=False)
    # It rewrites the methods of Sanic's classes, for the whole process.
    app.config.TOUCHUP = False

    @app.get("/ok")
    async def ok(_: sanic.Request) -> sanic.HTTPResponse:
        return sanic.text("ok")

    return app


class SanicServed(Served):
    """Runs Sanic apps on Sanic's own server."""

    def port_of(self, app: Any) -> int:
        """The port on which the app is served."""
        listener = socket.create_server(("127.0.0.1", 0))

        async def start() -> Any:
            server = await app.create_server(sock=listener, return_asyncio_server=True, access_log=False)
            await server.startup()
            await server.before_start()
            return server

        server = self.run(start())

        async def stop() -> None:
            await server.before_stop()
            await server.close()
            for connection in list(server.connections):
                connection.abort()
            await server.after_stop()
            listener.close()

        self.closers.append(stop)
        return int(listener.getsockname()[1])

    def get(self, app: Any) -> Get:
        """Sends GETs to the app."""
        return self.getter(self.port_of(app))


class TestSanic(SanicServed, RouteLimitLaws):
    """Decorated handlers."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:  # noqa: C901  # one function for each route
        """Async and sync functions, one of them in a blueprint, a class of views, and a method of one."""
        app, blueprint, make = new_app(), sanic.Blueprint(f"v-{next(_NUMBERS)}"), for_sanic.limit
        if around is not None:
            for_sanic.RateLimit(app, gate=around)

        @app.get("/one")
        @make("2/minute", **limit)
        async def one(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @blueprint.get("/two")
        @make("2/minute", **limit)
        def two(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        class Both(HTTPMethodView):
            decorators = [make("2/minute", **limit), make("3/minute", per="address", **limit)]  # noqa: RUF012

            async def get(self, _: sanic.Request) -> sanic.HTTPResponse:
                return sanic.text("ok")

        class Everyone(HTTPMethodView):
            @make("2/minute", per="everyone", **limit)
            async def get(self, _: sanic.Request) -> sanic.HTTPResponse:
                return sanic.text("ok")

        @app.get("/account")
        @make("2/minute", per="account", **limit)
        async def account(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @app.get("/costly")
        @make("10/minute", cost=5, **limit)
        async def costly(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @app.get("/shared")
        @make("2/minute", scope="shared", **limit)
        async def shared(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @app.get("/shared-too")
        @make("2/minute", scope="shared", **limit)
        async def shared_too(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @app.get("/free")
        async def free(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        app.blueprint(blueprint)
        app.add_route(Both.as_view(), "/both")
        app.add_route(Everyone.as_view(), "/everyone")
        return self.get(app)


class TestRateLimit(SanicServed):
    """`RateLimit(app, ...)`."""

    @pytest.fixture
    def limiter(self) -> Limiter:
        """Looks into the limits."""
        return Limiter(MemoryBackend())

    @pytest.fixture
    def app(self, limiter: Limiter) -> Any:
        """An app with streams that end when the test says so."""
        app, backend = new_app(), cast("Any", limiter.backend)
        plans, rules = PlanTable([PLAN], default="p"), [Rule("/free", exempt=True), Rule("/a/b", exempt=True)]
        gate = AsyncGate(AsyncLimiter(backend), plans=plans, identify=identify, rules=rules)
        for_sanic.RateLimit(app, gate=gate)
        self.begun, self.can_end = asyncio.Event(), asyncio.Event()

        @app.get("/stream")
        async def stream(request: sanic.Request) -> None:
            response = await request.respond(headers={"RateLimit": "mine"})
            await self.chunks(response)
            await response.eof()

        @app.get("/returned")
        async def returned(_: sanic.Request) -> Any:
            async def stream(response: Any) -> None:
                await self.chunks(response.response)

            return sanic.response.ResponseStream(stream)

        @app.get("/broken")
        async def broken(request: sanic.Request) -> None:
            response = await request.respond()
            await response.send("begun")
            raise RuntimeError("a bug")

        @app.get("/missing")
        async def missing(_: sanic.Request) -> None:
            raise NotFound

        @app.get("/free")
        async def free(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        @app.websocket("/feed")
        async def feed(_: sanic.Request, feed: Any) -> None:
            await feed.send("tick")
            await feed.recv()

        return app

    async def chunks(self, response: Any) -> None:
        """Send a chunk, wait, and send another."""
        await response.send("begun")
        self.begun.set()
        await self.can_end.wait()
        await response.send("ended")

    @staticmethod
    def slots(limiter: Limiter) -> int:
        """How many slots are free, of two."""
        return limiter.peek("alice", PLAN).usages[-1].remaining

    def test_without_a_key(self, app: Any) -> None:
        """A request without a key is a 401, also for a path that does not exist; an exempt path needs none."""
        get = self.get(app)

        assert [get(path).status for path in ("/stream", "/nothing", "/free")] == [401, 401, 200]

    @pytest.mark.parametrize("path", ["/a%2fb", "/a/%2e/b", "/free/../stream", "/%66ree/.", "http://x/stream"])
    def test_paths_that_are_not_exempt(self, app: Any, path: str) -> None:
        """A path that only resembles an exempt one needs a key."""
        assert self.get(app)(path).status == 401

    @pytest.mark.parametrize("path", ["/stream", "/returned"])
    def test_stream(self, app: Any, limiter: Limiter, path: str) -> None:
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
        assert held == 1
        assert self.slots(limiter) == 2

    def test_disconnect(self, app: Any, limiter: Limiter) -> None:
        """A client that disconnects gives its slot back."""
        port = self.port_of(app)

        async def scenario() -> tuple[int, int]:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\nX-API-Key: alice\r\n\r\n")
            await self.begun.wait()
            held = self.slots(limiter)
            writer.close()
            return held, await becomes(lambda: self.slots(limiter), 2)

        held, free = self.run(scenario())
        assert held == 1
        assert free == 2

    def test_connection_of_many_requests(self, app: Any, limiter: Limiter) -> None:
        """A connection remembers nothing of the requests that it has served."""
        tasks: set[Any] = set()

        @app.on_request
        async def keep(_: sanic.Request) -> None:
            tasks.add(asyncio.current_task())

        port = self.port_of(app)

        async def scenario() -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(10):
                writer.write(b"GET /missing HTTP/1.1\r\nHost: a\r\nX-API-Key: alice\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
            await becomes(lambda: self.slots(limiter), 2)
            (task,) = tasks
            callbacks = len(task._callbacks or ())
            writer.close()
            await writer.wait_closed()
            return callbacks

        assert self.run(scenario()) <= 1

    @pytest.mark.parametrize("path", ["/ok", "/missing", "/nothing", "/stream", "/broken"])
    def test_kept_connection(self, app: Any, limiter: Limiter, path: str) -> None:
        """When its response has ended, a request holds no slot, though its connection stays open."""
        port = self.port_of(app)
        self.can_end.set()

        async def scenario() -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            request = b"GET %b HTTP/1.1\r\nHost: a\r\nX-API-Key: alice\r\n\r\n"
            writer.write(request % path.encode())
            await reader.readuntil(b"\r\n\r\n")
            free = await becomes(lambda: self.slots(limiter), 2)
            writer.write(request % b"/ok")
            await reader.readuntil(b"HTTP/1.1 200 OK")
            writer.close()
            await writer.wait_closed()
            return free

        assert self.run(asyncio.wait_for(scenario(), 20)) == 2

    @pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/nothing", 404), ("/broken", 200)])
    def test_errors(self, app: Any, limiter: Limiter, path: str, status: int) -> None:
        """An error response reports the limits, and holds no slot; nor does a stream that breaks off."""
        answer = self.get(app)(path, "alice")

        assert answer.status == status
        assert answer.headers["ratelimit"].startswith('"minute";r=99;')
        assert self.slots(limiter) == 2

    def test_websocket(self, app: Any, limiter: Limiter) -> None:
        """A WebSocket holds its slot until it closes, and is refused with a 401 without a key."""
        port = self.port_of(app)

        async def scenario() -> tuple[int, int]:
            async with connect(
                f"ws://127.0.0.1:{port}/feed", additional_headers={"X-API-Key": "alice"}, proxy=None
            ) as client:
                await client.recv()
                held = self.slots(limiter)
            return held, await becomes(lambda: self.slots(limiter), 2)

        held, free = self.run(scenario())
        assert held == 1
        assert free == 2
        assert self.getter(port)("/feed").status == 401

    def test_backend_of_a_url(self, tmp_path: Path) -> None:
        """A backend that is given as a URL is closed when the server stops."""
        app = new_app()
        limits = for_sanic.RateLimit(app, keys={"k": "starter"}, backend=f"host://{tmp_path}/limits")
        get = self.get(app)

        assert get("/", "k").status == 404
        first = limits.gate
        self.run(cast("Any", self.closers.pop()()))
        self.run(limits._open(app))
        assert limits.gate is not first
        self.run(limits._close(app))

    def test_source(self) -> None:
        """An identifier reads the query as it was sent, the request itself, and the user that a middleware has set."""
        app, found = new_app(), []

        @app.on_request(priority=2_000)
        async def authenticate(request: sanic.Request) -> None:
            request.ctx.user = "ada"

        def read(request: Request) -> None:
            user, session = request.user, request.session
            found.append((request.query("q"), request.source.path, request.header("x-api-key"), user, session))

        for_sanic.RateLimit(app, identify=read, anonymous=Plan.of("a", per_minute=1))
        self.get(app)("/a%20b?q=1%262&q=3", "k")

        assert found == [("1&2", "/a%20b", "k", "ada", None)]

    def test_no_app(self) -> None:
        """Anything but an app is an error."""
        with pytest.raises(TypeError, match="app: expected a Sanic app, got"):
            for_sanic.RateLimit(cast("Any", sanic.Blueprint("b")), keys={})


class TestLimit(SanicServed):
    """What only Sanic has."""

    def test_views_of_one_module(self) -> None:
        """Two class-based views with the decorator have two buckets."""
        app = new_app()

        class First(HTTPMethodView):
            decorators = [for_sanic.limit("1/minute")]  # noqa: RUF012

            async def get(self, _: sanic.Request) -> sanic.HTTPResponse:
                return sanic.text("ok")

        class Second(HTTPMethodView):
            decorators = [for_sanic.limit("1/minute")]  # noqa: RUF012

            async def get(self, _: sanic.Request) -> sanic.HTTPResponse:
                return sanic.text("ok")

        app.add_route(First.as_view(), "/first")
        app.add_route(Second.as_view(), "/second")
        get = self.get(app)

        assert [get(path, address="192.8.8.8").status for path in ("/first", "/second", "/first")] == [200, 200, 429]

    def test_websocket(self) -> None:
        """A WebSocket handler over its limit closes the socket with code 1013."""
        app = new_app()

        @app.websocket("/feed")
        @for_sanic.limit("1/minute")
        async def sanic_feed(_: sanic.Request, feed: Any) -> None:
            await feed.send("tick")

        port = self.port_of(app)

        async def close_code() -> int | None:
            async with connect(f"ws://127.0.0.1:{port}/feed", proxy=None, local_addr=("127.8.8.7", 0)) as client:
                await client.wait_closed()
                return client.close_code

        assert self.run(close_code()) == 1000
        assert self.run(close_code()) == 1013

    def test_behind_the_asgi_middleware(self) -> None:
        """On an ASGI server the middleware limits the app, and a limit of a handler is decided together with it."""
        app = new_app()

        @app.get("/search")
        @for_sanic.limit("1/minute")
        async def sanic_search(_: sanic.Request) -> sanic.HTTPResponse:
            return sanic.text("ok")

        with TestClient(RateLimitMiddleware(app, keys={"k": "starter"})) as client:
            answers = [client.get("/search", headers={"X-API-Key": "k"}) for _ in range(2)]
            without_key = client.get("/search")

        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[0].headers["ratelimit"].startswith('"minute";r=59;')
        assert answers[0].headers["ratelimit"].endswith('"sanic_search.minute";r=0;t=60')
        assert without_key.status_code == 401

    def test_class(self) -> None:
        """A class is an error that names `decorators`."""
        limit: Any = for_sanic.limit("1/minute")

        with pytest.raises(TypeError, match=r"got .*; write decorators = \[limit\(...\)\] in an HTTPMethodView"):
            limit(HTTPMethodView)
