"""Signal handlers that raise while an RPC of gRPC is decided, answered and released."""

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.interruptions import every_interruption

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, Plan, PlanTable, StaticKeys
from awx_ratelimit.adapters.grpc import AsyncRateLimitInterceptor, RateLimitInterceptor
from awx_ratelimit.testing import ManualClock

KEY = "awx_interrupted_key"
PLAN = Plan.of("interrupted", per_minute=10**6, concurrent=100)
OPTIONS: dict[str, Any] = {"plans": PlanTable([PLAN]), "identify": StaticKeys({KEY: "interrupted"})}
DETAILS = SimpleNamespace(method="/demo.Greeter/Hello", invocation_metadata=(("x-api-key", KEY),))


class Context:
    """The context of an RPC. It keeps the callback, as gRPC does, and never calls it."""

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5000"

    def trailing_metadata(self) -> None:
        pass

    def set_trailing_metadata(self, metadata: Any) -> None:
        pass

    def add_callback(self, callback: Any) -> None:
        self.callback = callback


def _handler(behavior: Any, *, streams: bool) -> Any:
    make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    return make(behavior)


def _rpc(backend: MemoryBackend, *, streams: bool) -> Callable[[], object]:
    def respond(request: bytes, context: Context) -> bytes:
        return b"hello"

    def stream(request: bytes, context: Context) -> Iterator[bytes]:
        yield b"hello"

    interceptor = RateLimitInterceptor(gate=Gate(Limiter(backend), **OPTIONS))
    handler = interceptor.intercept_service(
        lambda _: _handler(stream if streams else respond, streams=streams), DETAILS
    )
    if streams:
        return lambda: list(handler.unary_stream(b"", Context()))
    return lambda: handler.unary_unary(b"", Context())


def _async_rpc(backend: MemoryBackend, *, streams: bool) -> Callable[[], object]:
    async def respond(request: bytes, context: Context) -> bytes:
        return b"hello"

    async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"hello"

    async def handlers(_: Any) -> Any:
        return _handler(stream if streams else respond, streams=streams)

    async def call(handler: Any) -> None:
        if not streams:
            await handler.unary_unary(b"", Context())
            return
        async for _ in handler.unary_stream(b"", Context()):
            pass

    def rpc() -> None:
        with suppress(StopIteration):
            call(found.value.value).send(None)

    interceptor = AsyncRateLimitInterceptor(gate=AsyncGate(AsyncLimiter(backend), **OPTIONS))
    with pytest.raises(StopIteration) as found:
        interceptor.intercept_service(handlers, DETAILS).send(None)
    return rpc


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # an exception may come before its first step
@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("make", [_rpc, _async_rpc], ids=["threads", "tasks"])
def test_interrupted_rpc(make: Callable[..., Callable[[], object]], streams: bool) -> None:
    """Wherever a signal handler raises in an RPC, no slot stays taken."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    call = make(backend, streams=streams)
    for _ in range(3):
        call()
    lost = []
    for interruption in every_interruption(at_instructions=True):
        before = backend.health()["leases"]
        with interruption.raising():
            call()
        # A generator that is left by an exception is closed when it is collected.
        gc.collect()
        if backend.health()["leases"] != before:
            lost.append(interruption.number)

    assert lost == []
    assert backend.health()["leases"] == 0
