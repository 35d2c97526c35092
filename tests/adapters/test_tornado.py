"""The adapter of Tornado: limits of the whole app, and `limit` on handlers."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from tests.adapters.loopback import Served, becomes, fetched
from tests.adapters.route_limit_laws import PLAN, Answer, Get, RouteLimitLaws, identify
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler
from websockets.asyncio.client import connect

from awx_ratelimit import AsyncGate, AsyncLimiter, Limiter, MemoryBackend, Plan, PlanTable, Request, Rule
from awx_ratelimit.adapters import tornado as for_tornado


class TornadoServed(Served):
    """Runs Tornado apps."""

    def port_of(self, app: Application) -> int:
        """The port on which the app is served."""
        sockets = bind_sockets(0, "127.0.0.1")

        async def start() -> HTTPServer:
            server = HTTPServer(app)
            server.add_sockets(sockets)
            return server

        server = self.run(start())

        async def stop() -> None:
            server.stop()
            await server.close_all_connections()

        self.closers.append(stop)
        return int(sockets[0].getsockname()[1])

    def get(self, app: Application) -> Get:
        """Sends GETs to the app."""
        return self.getter(self.port_of(app))


class Ok(RequestHandler):
    """Answers."""

    def get(self) -> None:
        self.write("ok")


class TestTornado(TornadoServed, RouteLimitLaws):
    """Decorated methods and classes."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """Async and sync methods, and a class."""
        make = for_tornado.limit

        class One(RequestHandler):
            @make("2/minute", scope="one", **limit)
            async def get(self) -> None:
                self.write("ok")

        class Two(RequestHandler):
            @make("2/minute", **limit)
            def get(self) -> None:
                self.write("ok")

        class Both(RequestHandler):
            @make("3/minute", per="address", **limit)
            @make("2/minute", **limit)
            async def get(self) -> None:
                await self.finish("ok")

        @make("2/minute", per="everyone", **limit)
        class Everyone(Ok):
            pass

        class Account(RequestHandler):
            @make("2/minute", per="account", **limit)
            def get(self) -> None:
                self.write("ok")

        class Costly(RequestHandler):
            @make("10/minute", cost=5, **limit)
            def get(self) -> None:
                self.write("ok")

        class Shared(RequestHandler):
            @make("2/minute", scope="shared", **limit)
            def get(self) -> None:
                self.write("ok")

        class SharedToo(RequestHandler):
            @make("2/minute", scope="shared", **limit)
            def get(self) -> None:
                self.write("ok")

        classes: dict[str, Any] = {"one": One, "two": Two, "both": Both, "everyone": Everyone, "account": Account}
        classes |= {"costly": Costly, "shared": Shared, "shared-too": SharedToo, "free": Ok}
        app = Application([(f"/{name}", each) for name, each in classes.items()])
        if around is not None:
            for_tornado.RateLimit(app, gate=around)
        return self.get(app)


class TestRateLimit(TornadoServed):
    """`RateLimit(app, ...)`."""

    @pytest.fixture
    def limiter(self) -> Limiter:
        """Looks into the limits."""
        return Limiter(MemoryBackend())

    @pytest.fixture
    def app(self, limiter: Limiter) -> Application:
        """An app with a stream that ends when the test says so."""
        self.begun, self.can_end = begun, can_end = asyncio.Event(), asyncio.Event()

        class Stream(RequestHandler):
            def prepare(self) -> None:
                self.set_header("RateLimit", "mine")

            async def get(self) -> None:
                self.write("begun")
                await self.flush()
                begun.set()
                await can_end.wait()
                self.write("ended")

        class Broken(RequestHandler):
            def get(self) -> None:
                raise HTTPError(418)

        class Feed(WebSocketHandler):
            def open(self) -> None:
                if self.get_query_argument("fail", ""):
                    raise RuntimeError("a bug")
                self.write_message("tick")

        @stream_request_body
        class Upload(RequestHandler):
            def data_received(self, chunk: bytes) -> None:
                begun.set()

            def post(self) -> None:
                self.write("ok")

        app = Application(
            [("/stream", Stream), ("/broken", Broken), ("/free", Ok), ("/a/b", Ok), ("/feed", Feed), ("/up", Upload)]
        )
        plans, rules = PlanTable([PLAN], default="p"), [Rule("/free", exempt=True), Rule("/a/b", exempt=True)]
        backend: Any = limiter.backend
        gate = AsyncGate(AsyncLimiter(backend), plans=plans, identify=identify, rules=rules)
        for_tornado.RateLimit(app, gate=gate)
        return app

    @staticmethod
    def slots(limiter: Limiter) -> int:
        """How many slots are free, of two."""
        return limiter.peek("alice", PLAN).usages[-1].remaining

    def test_without_a_key(self, app: Application) -> None:
        """A request without a key is a 401, also for a path that does not exist; an exempt path needs none."""
        get = self.get(app)

        assert [get(path).status for path in ("/stream", "/nothing", "/free")] == [401, 401, 200]

    @pytest.mark.parametrize("path", ["/a%2fb", "/a/%2e/b", "/free/../stream", "/%66ree/.", "http://x/stream"])
    def test_paths_that_are_not_exempt(self, app: Application, path: str) -> None:
        """A path that only resembles an exempt one needs a key."""
        assert self.get(app)(path).status == 401

    def test_stream(self, app: Application, limiter: Limiter) -> None:
        """A stream reports the limits in one line of each field, and holds its slot until it ends."""
        port = self.port_of(app)

        async def scenario() -> tuple[Answer, int]:
            answer = asyncio.ensure_future(fetched(port, "/stream", "alice", "192.0.2.1"))
            await self.begun.wait()
            held = self.slots(limiter)
            self.can_end.set()
            return await answer, held

        answer, held = self.run(scenario())
        assert answer.headers["ratelimit"].startswith('"minute";r=99;')
        assert "|" not in answer.headers["ratelimit"]
        assert held == 1
        assert self.slots(limiter) == 2

    def test_disconnect(self, app: Application, limiter: Limiter) -> None:
        """A client that disconnects gives its slot back, while the handler still runs."""
        port = self.port_of(app)

        async def scenario() -> tuple[int, int]:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\nX-API-Key: alice\r\n\r\n")
            await self.begun.wait()
            held = self.slots(limiter)
            writer.close()
            free = await becomes(lambda: self.slots(limiter), 2)
            self.can_end.set()
            return held, free

        held, free = self.run(scenario())
        assert held == 1
        assert free == 2

    @pytest.mark.parametrize(("path", "status"), [("/broken", 418), ("/nothing", 404)])
    def test_errors(self, app: Application, limiter: Limiter, path: str, status: int) -> None:
        """An error response reports the limits, and holds no slot."""
        answer = self.get(app)(path, "alice")

        assert answer.status == status
        assert answer.headers["ratelimit"].startswith('"minute";r=99;')
        assert self.slots(limiter) == 2

    def test_websocket(self, app: Application, limiter: Limiter) -> None:
        """A WebSocket reports the limits, holds its slot until it closes, and is refused with a 401 without a key."""
        port = self.port_of(app)

        async def scenario() -> tuple[Any, int, int]:
            url, key = f"ws://127.0.0.1:{port}/feed", {"X-API-Key": "alice"}
            async with connect(url, additional_headers=key, proxy=None) as socket:
                await socket.recv()
                held = self.slots(limiter)
            async with connect(f"{url}?fail=1", additional_headers=key, proxy=None) as failed:
                await failed.wait_closed()
            free = await becomes(lambda: self.slots(limiter), 2)
            return cast("Any", socket.response).headers["ratelimit"], held, free

        reported, held, free = self.run(scenario())
        assert reported.startswith('"minute";r=99;')
        assert held == 1
        assert free == 2
        assert self.get(app)("/feed").status == 401

    def test_streamed_request(self, app: Application) -> None:
        """A handler that receives its body in chunks is refused before the body."""
        port = self.port_of(app)

        async def status() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

        assert self.run(status()).startswith(b"HTTP/1.1 401")
        assert not self.begun.is_set()

    def test_backend_of_a_url(self, tmp_path: Path) -> None:
        """A backend that is given as a URL is closed by `aclose`."""
        app = Application()
        limits = for_tornado.RateLimit(app, keys={"k": "starter"}, backend=f"host://{tmp_path}/limits")

        assert self.get(app)("/", "k").status == 404
        self.run(limits.aclose())

    def test_source(self) -> None:
        """An identifier reads the query as it was sent, and the request itself."""
        app, found = Application(), []

        def read(request: Request) -> None:
            found.append((request.query("q"), request.source.path, request.header("x-api-key"), request.user))

        for_tornado.RateLimit(app, identify=read, anonymous=Plan.of("a", per_minute=1))
        self.get(app)("/a%20b?q=1%262&q=3", "k")

        assert found == [("1&2", "/a%20b", "k", None)]

    def test_unix_socket(self, tmp_path: Path) -> None:
        """Over a unix socket a client has no address."""
        app, found = Application(), []
        socket = bind_unix_socket(str(tmp_path / "s"))

        def read(request: Request) -> None:
            found.append(request.client)

        for_tornado.RateLimit(app, identify=read, anonymous=Plan.of("a", per_minute=1))

        async def request() -> bytes:
            server = HTTPServer(app)
            server.add_socket(socket)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            server.stop()
            await server.close_all_connections()
            return answer

        assert self.run(request()).startswith(b"HTTP/1.1 404")
        assert found == [None]

    def test_two(self, app: Application) -> None:
        """A second RateLimit of an app is an error."""
        with pytest.raises(TypeError, match=r"got one that RateLimit limits already, .*; write only one of them"):
            for_tornado.RateLimit(app, keys={})

    def test_no_app(self) -> None:
        """Anything but an app is an error."""
        with pytest.raises(TypeError, match=r"app: expected a tornado\.web\.Application, got"):
            for_tornado.RateLimit(cast("Any", Ok), keys={})


class TestLimit:
    """What only Tornado has."""

    @pytest.mark.parametrize("method", ["get", dict])
    def test_not_a_method(self, method: Any) -> None:
        """Anything but a method or a class of handlers is an error."""
        with pytest.raises(TypeError, match="limit: expected a method of a handler, or its class, got"):
            for_tornado.limit("1/minute")(method)
