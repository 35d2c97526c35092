"""The interceptors for gRPC, on real servers without generated code."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    BackendUnavailable,
    Concurrency,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Reply,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.grpc import AsyncRateLimitInterceptor, RateLimitInterceptor
from awx_ratelimit.testing import ManualClock

PLAN = Plan("two", (Rate.parse("2/minute"),), Concurrency(1))
KEYS = {"awx_example_one": PLAN, "awx_example_two": PLAN}
RULES = [Rule("/demo.Health/**", exempt=True), Rule("/demo.Greeter/Dear", cost=2)]
KEY = (("x-api-key", "awx_example_one"),)
OTHER_KEY = (("x-api-key", "awx_example_two"),)


class Failing(MemoryBackend):
    def acquire(self, *_: Any) -> Any:
        raise BackendUnavailable("no server")


class Service:
    """The handlers of a ``grpc.server``. `may_end` lets the streams go on after their first message."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self.ran: list[bytes] = []
        self.is_over = False

    def hello(self, request: bytes, _: Any) -> bytes:
        self.ran.append(request)
        return request

    def fail(self, _: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
        return b""

    def own(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("mine", "1"),))
        return request

    def count(self, request: bytes, _: Any) -> Iterator[bytes]:
        yield request
        self.may_end.wait(60)
        yield b"end"

    def flood(self, _: bytes, __: Any) -> Iterator[bytes]:
        while not self.is_over:
            yield bytes(100_000)

    def sum(self, requests: Iterator[bytes], _: Any) -> bytes:
        return b"".join(requests)

    def chat(self, requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        yield from requests

    def handlers(self) -> Any:
        return {
            "Hello": grpc.unary_unary_rpc_method_handler(self.hello),
            "Dear": grpc.unary_unary_rpc_method_handler(self.hello),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Own": grpc.unary_unary_rpc_method_handler(self.own),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Flood": grpc.unary_stream_rpc_method_handler(self.flood),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }


class AsyncService(Service):
    """The handlers of a ``grpc.aio`` server."""

    async def hello(self, request: bytes, _: Any) -> bytes:  # type: ignore[override]
        self.ran.append(request)
        return request

    async def fail(self, _: bytes, context: Any) -> bytes:  # type: ignore[override]
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
        return b""

    async def own(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        context.set_trailing_metadata((("mine", "1"),))
        return request

    async def count(self, request: bytes, _: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        yield request
        await asyncio.to_thread(self.may_end.wait, 60)
        yield b"end"

    async def flood(self, _: bytes, __: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        while not self.is_over:
            yield bytes(100_000)

    async def sum(self, requests: AsyncIterator[bytes], _: Any) -> bytes:  # type: ignore[override]
        return b"".join([request async for request in requests])

    async def chat(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for request in requests:
            yield request


class Server:
    """A running server and a client."""

    def __init__(self, service: Service, interceptor: Any, port: int) -> None:
        self.service = service
        self.interceptor = interceptor
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def hello(self, metadata: Any = KEY, path: str = "/demo.Greeter/Hello") -> Any:
        """The call of a method with one message in each direction, when it has ended."""
        return self.channel.unary_unary(path).with_call(b"hi", metadata=metadata, timeout=20)[1]

    def code(self, metadata: Any = KEY, path: str = "/demo.Greeter/Hello") -> Any:
        """The code with which the call ends."""
        try:
            return self.hello(metadata, path).code()
        except grpc.RpcError as error:
            return error.code()

    def refusal(self, metadata: Any = KEY, path: str = "/demo.Greeter/Hello") -> Any:
        """The error of a call."""
        with pytest.raises(grpc.RpcError) as caught:
            self.hello(metadata, path)
        return caught.value

    def await_slot(self) -> None:
        """Wait until the slot of the first key is free."""
        until_s = time.monotonic() + 20
        while (code := self.code(path="/demo.Greeter/Hello")) is not grpc.StatusCode.OK:
            assert time.monotonic() < until_s, code
            time.sleep(0.005)


@contextmanager
def aio_server(interceptor: Any, service: Service | None = None) -> Iterator[Server]:
    """A ``grpc.aio`` server in a thread."""
    service = service or AsyncService()
    loop, started, ports = asyncio.new_event_loop(), threading.Event(), []

    async def serve(stop: asyncio.Event) -> None:
        server = grpc.aio.server(interceptors=[interceptor])
        _add(server, service)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        started.set()
        await stop.wait()
        await server.stop(None)

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(stop)))
    thread.start()
    assert started.wait(20)
    running = Server(service, interceptor, ports[0])
    try:
        yield running
    finally:
        service.is_over = True
        service.may_end.set()
        running.channel.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


@contextmanager
def sync_server(interceptor: Any) -> Iterator[Server]:
    """A ``grpc.server``."""
    service = Service()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[interceptor])
        _add(server, service)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        running = Server(service, interceptor, port)
        try:
            yield running
        finally:
            service.is_over = True
            service.may_end.set()
            running.channel.close()
            server.stop(None).wait(20)


def _add(server: Any, service: Service) -> None:
    for name in ("demo.Greeter", "demo.Health"):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, service.handlers()),))


def serving(kind: str, **options: Any) -> Any:
    """A server of this kind with the plans and rules of these tests."""
    arguments = {"keys": KEYS, "plans": [PLAN], "rules": RULES, **options}
    if kind == "aio":
        return aio_server(AsyncRateLimitInterceptor(**arguments))
    return sync_server(RateLimitInterceptor(**arguments))


@pytest.fixture(params=["aio", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_006_400_000)


@pytest.fixture
def server(kind: str, clock: ManualClock) -> Iterator[Server]:
    with serving(kind, backend=MemoryBackend(clock=clock)) as server:
        yield server


def test_refused_rpc(server: Server, clock: ManualClock) -> None:
    """An RPC over the limit ends with RESOURCE_EXHAUSTED and its wait, and does not run."""
    codes = [server.code() for _ in range(2)]
    clock.advance(500)
    error = server.refusal()
    metadata = dict(error.trailing_metadata())

    assert codes == [grpc.StatusCode.OK] * 2
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "Rate limit exceeded. Retry after 30 seconds."
    assert metadata["retry-after"] == "30"
    assert metadata["ratelimit"].startswith('"minute";r=0;t=30')
    assert "content-type" not in metadata
    assert len(server.service.ran) == 2
    assert server.code(OTHER_KEY) is grpc.StatusCode.OK


def test_retry_info(server: Server, clock: ManualClock) -> None:
    """The details of the status have a google.rpc.RetryInfo with the exact wait."""
    for _ in range(2):
        server.hello()
    clock.advance(500)
    details = dict(server.refusal().trailing_metadata())["grpc-status-details-bin"]
    delay = b"\x08\x1d\x10" + varint(500_000_000)
    info = b"\x0a" + bytes([len(delay)]) + delay
    url = b"type.googleapis.com/google.rpc.RetryInfo"
    packed = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(info)]) + info
    text = b"Rate limit exceeded. Retry after 30 seconds."

    assert details == b"\x08\x08\x12" + bytes([len(text)]) + text + b"\x1a" + bytes([len(packed)]) + packed


def varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits per byte, the lowest first."""
    parts = []
    while number > 127:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


def test_exact_wait(server: Server, clock: ManualClock) -> None:
    """After the wait an RPC runs, and not earlier."""
    for _ in range(2):
        server.hello()
    clock.advance(29_999)
    early = server.code()
    clock.advance(1)

    assert early is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("metadata", [(), (("x-api-key", "awx_wrong"),), (*KEY, *KEY)], ids=["none", "wrong", "twice"])
def test_keys(server: Server, metadata: Any) -> None:
    """An RPC without a key, with an unknown one or with two keys is UNAUTHENTICATED, and shows no key."""
    error = server.refusal(metadata)

    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "API key" in error.details()
    assert "awx_" not in error.details()
    assert server.service.ran == []


def test_rules(server: Server) -> None:
    """An exempt method needs no key, and a rule can make a method cost more."""
    exempt = [server.code((), "/demo.Health/Hello") for _ in range(4)]

    assert exempt == [grpc.StatusCode.OK] * 4
    assert server.code(path="/demo.Greeter/Dear") is grpc.StatusCode.OK
    assert server.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_limits_of_an_admitted_rpc(server: Server) -> None:
    """An admitted RPC reports its limits in the trailing metadata, beside those of the app."""
    metadata = dict(server.hello(path="/demo.Greeter/Own").trailing_metadata())

    assert metadata["mine"] == "1"
    assert metadata["ratelimit"].startswith('"minute";r=1')
    assert metadata["ratelimit-policy"].startswith('"minute";q=2;w=60')


def test_error_of_the_app(server: Server) -> None:
    """An error of the app passes unchanged, and the slot comes back."""
    error = server.refusal(path="/demo.Greeter/Fail")

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "nothing here"
    assert server.code() is grpc.StatusCode.OK


def test_stream_holds_its_slot(server: Server) -> None:
    """A stream holds its slot until it ends."""
    server.service.may_end.clear()
    stream = server.channel.unary_stream("/demo.Greeter/Count")(b"one", metadata=KEY, timeout=20)
    first = next(stream)
    during = server.refusal()
    server.service.may_end.set()
    rest = list(stream)

    assert [first, *rest] == [b"one", b"end"]
    assert '"concurrent";r=0' in dict(during.trailing_metadata())["ratelimit"]
    assert server.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("method", ["Count", "Flood"])
def test_cancelled_stream(kind: str, method: str) -> None:
    """A stream that the client cancels gives its slot back, whether it waits for something or for the client."""
    plan = Plan("slot", (), Concurrency(1))
    with serving(kind, keys={"awx_example_one": plan}, plans=[plan], rules=()) as server:
        server.service.may_end.clear()
        stream = server.channel.unary_stream(f"/demo.Greeter/{method}")(b"one", metadata=KEY, timeout=60)
        next(stream)
        assert server.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stream.cancel()
        server.await_slot()


def test_streams_of_requests(server: Server) -> None:
    """RPCs whose requests are a stream are limited too, and work."""
    total = server.channel.stream_unary("/demo.Greeter/Sum")(iter([b"a", b"b"]), metadata=KEY, timeout=20)
    echo = list(server.channel.stream_stream("/demo.Greeter/Chat")(iter([b"a", b"b"]), metadata=KEY, timeout=20))
    with pytest.raises(grpc.RpcError) as caught:
        list(server.channel.stream_stream("/demo.Greeter/Chat")(iter([b"a"]), metadata=KEY, timeout=20))

    assert total == b"ab"
    assert echo == [b"a", b"b"]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unknown_method(server: Server) -> None:
    """A method that does not exist is UNIMPLEMENTED."""
    assert server.code(path="/demo.Greeter/Nothing") is grpc.StatusCode.UNIMPLEMENTED


def test_outage(kind: str) -> None:
    """Without a decision an RPC is UNAVAILABLE."""
    with serving(kind, backend=Failing()) as server:
        assert server.code() is grpc.StatusCode.UNAVAILABLE


def test_limits_by_address(kind: str) -> None:
    """Without keys, clients are limited by their address."""
    with serving(kind, keys=None, anonymous=Plan.of("anonymous", per_minute=1), rules=()) as server:
        assert [server.code(()) for _ in range(2)] == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]


def test_own_refusal(kind: str) -> None:
    """The text of `on_refused` is the message of the RPC, and the wait stays."""
    own = {"on_refused": lambda *_: Reply.text("Come back later.", status=418)}
    with serving(kind, **own) as server:
        for _ in range(2):
            server.hello()
        error = server.refusal()

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "Come back later."
    assert dict(error.trailing_metadata())["retry-after"] == "30"


def test_gate(kind: str) -> None:
    """A gate can be given instead of its arguments, and nothing beside it."""
    identify, plans = StaticKeys(KEYS), PlanTable([PLAN])
    gates: dict[str, Any] = {
        "aio": AsyncGate(AsyncLimiter(MemoryBackend()), plans=plans, identify=identify),
        "sync": Gate(Limiter(MemoryBackend()), plans=plans, identify=identify),
    }
    make: Any = {"aio": AsyncRateLimitInterceptor, "sync": RateLimitInterceptor}[kind]

    assert make(gate=gates[kind]).gate is gates[kind]
    with pytest.raises(TypeError, match="gate"):
        make(gate=gates[kind], keys=KEYS)


def test_backend_of_a_url() -> None:
    """A backend that was given as a URL is closed with the interceptor."""
    sync = RateLimitInterceptor(keys=KEYS, plans=[PLAN], backend="memory://")
    asynchronous = AsyncRateLimitInterceptor(keys=KEYS, plans=[PLAN], backend="memory://")

    sync.close()
    asyncio.run(asynchronous.aclose())


def test_plain_handler_of_an_aio_server() -> None:
    """An RPC to a handler that is not async never runs without its limit: it ends with INTERNAL."""
    service = Service()
    with aio_server(AsyncRateLimitInterceptor(keys=KEYS, plans=[PLAN]), service) as server:
        error = server.refusal()

    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "The handler of this method is not async."
    assert service.ran == []
