"""Before a refusal, the adapters read a bounded part of the body, on WSGI and ASGI."""

import asyncio
import io
import wsgiref.util
from collections.abc import Callable
from typing import Any

import pytest
import trio

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, InvalidLimit, Limiter, MemoryBackend, Plan, PlanTable
from awx_ratelimit.adapters.asgi import AsgiApp, scope
from awx_ratelimit.adapters.starlette import RateLimitMiddleware as AsgiMiddleware
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as WsgiMiddleware
from awx_ratelimit.adapters.wsgi import WsgiApp, environ
from awx_ratelimit.http.message import Reply

MIB = 1_048_576
PLANS = PlanTable([Plan.of("p", per_minute=1)], default="p")
#: How a request without a key is refused: 401.
WSGI_GATE = Gate(Limiter(MemoryBackend()), plans=PLANS, identify=lambda _: None)
CHUNK = b"x" * 65_536


def wsgi_statuses(environ: dict[str, Any], **options: Any) -> list[str]:
    """The statuses that a refused WSGI request is answered with."""
    wsgiref.util.setup_testing_defaults(environ)
    statuses: list[str] = []
    app = WsgiMiddleware(lambda *_: [], gate=WSGI_GATE, **options)
    list(app(environ, lambda status, *_: statuses.append(status)))
    return statuses


@pytest.mark.parametrize(
    ("sent", "options", "read"),
    [
        ({"CONTENT_LENGTH": "20000"}, {}, 20_000),
        ({"CONTENT_LENGTH": "3000000"}, {}, MIB),
        ({"CONTENT_LENGTH": "3000000"}, {"max_drain_bytes": 4 * MIB}, 3_000_000),
        ({"CONTENT_LENGTH": "3000000"}, {"max_drain_bytes": 0}, 0),
        ({"CONTENT_LENGTH": "20000", "HTTP_EXPECT": "100-Continue"}, {}, 0),
        ({"CONTENT_LENGTH": "20000", "HTTP_EXPECT": "something else"}, {}, 20_000),
        ({"CONTENT_LENGTH": "-1"}, {}, 0),
        ({"CONTENT_LENGTH": "9" * 5_000}, {}, 0),
        ({"CONTENT_LENGTH": ""}, {}, 0),
        ({}, {}, 0),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, {}, 0),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}, {}, MIB),
        ({"wsgi.input_terminated": True}, {}, 0),
    ],
)
def test_wsgi_drain_is_bounded(sent: Any, options: Any, read: int) -> None:
    """A body with a length or an end is read up to the bound; nothing is read if the client expects 100-continue."""
    body = io.BytesIO(b"x" * 4_000_000)

    assert wsgi_statuses({"REQUEST_METHOD": "POST", "wsgi.input": body, **sent}, **options) == ["401 Unauthorized"]
    assert body.tell() == read


def test_short_wsgi_body() -> None:
    """A client that sends less than it announced gets its response once the input ends."""
    assert wsgi_statuses({"CONTENT_LENGTH": "20000", "wsgi.input": io.BytesIO(b"short")}) == ["401 Unauthorized"]


@pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError, ValueError])
def test_unreadable_wsgi_body(error: type[Exception]) -> None:
    """The client gets its response whatever the server's input raises."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise error

    assert wsgi_statuses({"CONTENT_LENGTH": "20000", "wsgi.input": Broken()}) == ["401 Unauthorized"]


def test_slow_wsgi_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two seconds no further read begins, and no read asks for more than 4 kB."""
    now_s, asked = [0.0], []
    monkeypatch.setattr(environ, "monotonic", lambda: now_s[0])

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size)
            now_s[0] += 0.7
            return b"x"

    assert wsgi_statuses({"CONTENT_LENGTH": "20000", "wsgi.input": Slow()}) == ["401 Unauthorized"]
    assert asked == [4_096] * 3


class Upload:
    """A refused ASGI upload: what it is answered with, and how much of it was received."""

    def __init__(self, *headers: tuple[bytes, bytes], chunks: int = 64, **scope: Any) -> None:
        self.scope: Any = {"type": "http", "method": "POST", "path": "/", "headers": list(headers), "client": None}
        self.scope |= {"http_version": "1.1", **scope}
        self.received_bytes = 0
        self.statuses: list[int] = []
        self._chunks = chunks

    async def receive(self) -> Any:
        self._chunks -= 1
        self.received_bytes += len(CHUNK)
        return {"type": "http.request", "body": CHUNK, "more_body": self._chunks > 0}

    async def send(self, message: Any) -> None:
        self.statuses += [message["status"]] if "status" in message else []

    async def refused(self, **options: Any) -> "Upload":
        gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=lambda _: None)
        await AsgiMiddleware(AsgiApp(lambda _: Reply(200, [], b"")), gate=gate, **options)(
            self.scope, self.receive, self.send
        )
        assert self.statuses == [401]
        return self


LENGTH = (b"content-length", b"4194304")
CHUNKED = (b"transfer-encoding", b"chunked")
EXPECT = (b"expect", b"100-Continue")


@pytest.mark.parametrize(
    ("upload", "options", "received"),
    [
        (lambda: Upload(LENGTH), {}, MIB),
        (lambda: Upload(CHUNKED), {}, MIB),
        (lambda: Upload(LENGTH, chunks=3), {}, 3 * len(CHUNK)),
        (lambda: Upload(LENGTH), {"max_drain_bytes": 4 * MIB}, 4 * MIB),
        (lambda: Upload(LENGTH), {"max_drain_bytes": 0}, 0),
        (lambda: Upload(LENGTH, EXPECT), {}, 0),
        (lambda: Upload((b"content-length", b"0")), {}, 0),
        (Upload, {}, 0),
        (lambda: Upload(LENGTH, http_version="2"), {}, 0),
        (lambda: Upload(LENGTH, http_version="1.0"), {}, MIB),
        (lambda: Upload(LENGTH, http_version="1"), {}, MIB),
    ],
)
def test_asgi_drain_is_bounded(upload: Callable[[], Upload], options: Any, received: int) -> None:
    """An HTTP/1 body is received up to the bound; nothing is received if the client expects 100-continue."""
    assert asyncio.run(upload().refused(**options)).received_bytes == received


@pytest.mark.parametrize("run", [asyncio.run, lambda awaited: trio.run(lambda: awaited)], ids=["asyncio", "trio"])
def test_stalled_asgi_body(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stalls gets its response after the timeout, on asyncio and trio."""
    monkeypatch.setattr(scope, "MAX_DRAIN_S", 0.01)
    upload = Upload(LENGTH)

    async def stalled() -> Any:
        if trio.lowlevel.in_trio_run():
            await trio.sleep_forever()
        await asyncio.Event().wait()

    upload.receive = stalled  # type: ignore[method-assign]
    run(upload.refused())


def test_disconnect_ends_the_drain() -> None:
    """After a disconnect nothing more is received."""
    upload = Upload(LENGTH)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    upload.receive = gone  # type: ignore[method-assign]
    asyncio.run(upload.refused())


@pytest.mark.parametrize("wrong", [-1, 1.5, "1 MiB", None, True])
def test_invalid_max_drain_bytes(wrong: Any) -> None:
    """Each adapter rejects an invalid `max_drain_bytes` in its constructor."""
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=lambda _: None)
    makers: list[Callable[[], object]] = [
        lambda: WsgiMiddleware(lambda *_: [], gate=WSGI_GATE, max_drain_bytes=wrong),
        lambda: AsgiMiddleware(AsgiApp(lambda _: Reply(200, [], b"")), gate=gate, max_drain_bytes=wrong),
        lambda: WsgiApp(lambda _: Reply(200, [], b""), max_drain_bytes=wrong),
        lambda: AsgiApp(lambda _: Reply(200, [], b""), max_drain_bytes=wrong),
    ]
    for make in makers:
        with pytest.raises(InvalidLimit, match=r"max_drain_bytes: expected an integer >= 0, got"):
            make()
