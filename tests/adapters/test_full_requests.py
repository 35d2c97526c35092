"""`AsgiApp` and `WsgiApp` pass full requests to a handler: bodies are bounded, and both send the same bytes."""

import asyncio
import io
from collections.abc import Callable, Iterable
from threading import Event, get_ident
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.http.message import FullRequest, Reply

LIMIT = 1_000
TOO_LARGE = (
    b'{"code":"request_too_large","type":"invalid_request_error","message":"The body of the request is too large."}'
)


class RecordingHandler:
    """Replies with 201 and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[FullRequest] = []
        self.thread = 0

    def __call__(self, request: FullRequest) -> Reply:
        self.requests.append(request)
        self.thread = get_ident()
        return Reply(201, [(b"content-type", b"text/plain"), (b"content-length", b"5")], b"hello")


class Asgi:
    """Sends requests to AsgiApp, as a server does."""

    def __init__(self, **options: Any) -> None:
        self.handler = RecordingHandler()
        self.app = AsgiApp(self.handler, **{"max_body_bytes": LIMIT, **options})
        self.received = 0

    def __call__(self, method: str, chunks: Iterable[bytes | None] = (), **headers: str) -> tuple[int, bytes] | None:
        """Send a request in chunks; None disconnects. Returns the status and the body, or None without a response."""
        messages = [_message(chunk) for chunk in chunks]
        if not messages or messages[-1]["type"] == "http.request":
            messages.append({"type": "http.request"})
        self.sent: list[Any] = []

        async def receive() -> Any:
            self.received += 1
            if not messages:
                await asyncio.Event().wait()
            return messages.pop(0)

        async def send(message: Any) -> None:
            self.sent.append(message)

        lines = [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": "/a", "query_string": b"q=1", "headers": lines}
        asyncio.run(self.app({**scope, "root_path": "", "client": ("192.0.2.1", 1)}, receive, send))
        return (self.sent[0]["status"], self.sent[1]["body"]) if self.sent else None


def _message(chunk: bytes | None) -> dict[str, Any]:
    if chunk is None:
        return {"type": "http.disconnect"}
    return {"type": "http.request", "body": chunk, "more_body": True}


class Wsgi:
    """Sends requests to WsgiApp through wsgiref's validator, as a server that marks the end of bodies."""

    def __init__(self, **options: Any) -> None:
        self.handler = RecordingHandler()
        self.app = WsgiApp(self.handler, **{"max_body_bytes": LIMIT, **options})

    def __call__(self, method: str, chunks: Iterable[bytes | None] = (), **headers: str) -> tuple[int, bytes]:
        body = b"".join(chunk for chunk in chunks if chunk is not None)
        environ: dict[str, Any] = {"wsgi.input": io.BytesIO(body), "REQUEST_METHOD": method, "PATH_INFO": "/a"}
        environ |= {"wsgi.input_terminated": True, "QUERY_STRING": "q=1", "SCRIPT_NAME": "", "REMOTE_ADDR": "192.0.2.1"}
        for name, value in headers.items():
            environ[name.upper() if name.startswith("content") else f"HTTP_{name.upper()}"] = value
        setup_testing_defaults(environ)
        started: list[Any] = []

        def start_response(status: str, _: Any, *__: Any) -> Callable[[bytes], None]:
            started.append(int(status[:3]))
            return lambda _: None

        answer: Any = validator(self.app)(environ, start_response)
        try:
            text = b"".join(answer)
        finally:
            answer.close()
        return started[0], text


@pytest.fixture(params=[Asgi, Wsgi])
def app(request: pytest.FixtureRequest) -> Any:
    """An app of each kind."""
    return request.param()


def test_full_request(app: Any) -> None:
    """The handler gets method, path, query, headers and body; its reply is sent unchanged."""
    answer = app("POST", [b"one ", b"two"], content_type="application/json", authorization="Bearer x")
    request, query, body = app.handler.requests[0]

    assert answer == (201, b"hello")
    assert request.method == "POST"
    assert request.path == "/a"
    assert request.client == "192.0.2.1"
    assert query == b"q=1"
    assert body == b"one two"
    assert [request.values(name) for name in (b"content-type", b"authorization", b"x-none")] == [
        [b"application/json"],
        [b"Bearer x"],
        [],
    ]


def test_head(app: Any) -> None:
    """A HEAD request gets the headers of the reply and no body."""
    assert app("HEAD") == (201, b"")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_methods_without_body(app: Any, method: str) -> None:
    """Bodies of these methods are ignored."""
    app(method, [b"a" * 5_000])

    assert app.handler.requests[0].body == b""


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a" * LIMIT], (201, b"hello")),
        ([b"a" * LIMIT, b"a"], (413, TOO_LARGE)),
        ([b"a"] * 1_001, (413, TOO_LARGE)),
    ],
)
def test_body_limit(app: Any, chunks: list[bytes], expected: tuple[int, bytes]) -> None:
    """A body without a length is read up to the limit; a longer one gets a 413 and never reaches the handler."""
    assert app("POST", chunks) == expected
    assert len(app.handler.requests) == int(expected[0] == 201)


@pytest.mark.parametrize(("max_drain_bytes", "received"), [(0, 2), (600, 3), (3_000, 7)])
def test_drain_after_the_limit(max_drain_bytes: int, received: int) -> None:
    """A 600 kB body is read until it exceeds the limit, and then `max_drain_bytes` further."""
    app = Asgi(max_drain_bytes=max_drain_bytes)

    assert app("POST", [b"a" * 600] * 1_000) == (413, TOO_LARGE)
    assert app.received == received


@pytest.mark.parametrize("drained", [0, 2_000])
def test_announced_long_body(drained: int) -> None:
    """WSGI believes the Content-Length: a body that is too long is only drained, within the bound."""
    app = Wsgi(max_drain_bytes=drained)
    stream = io.BytesIO(b"a" * 5_000)
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5000", "wsgi.input": stream}
    setup_testing_defaults(environ)
    body = app.app(environ, lambda *_: None)

    assert b"".join(body) == TOO_LARGE
    assert stream.tell() == drained


def test_long_last_chunk() -> None:
    """Nothing is received after the last chunk of a body."""
    app = Asgi()
    sent: list[Any] = []

    async def receive() -> Any:
        app.received += 1
        return {"type": "http.request", "body": b"a" * 5_000, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app.app({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send))
    assert sent[0]["status"] == 413
    assert app.received == 1


def test_unused_body_is_drained() -> None:
    """The body of a DELETE is drained, so that the connection stays usable."""
    asgi, wsgi = Asgi(), WsgiApp(RecordingHandler())
    stream = io.BytesIO(b"a" * 5_000)
    environ = {"REQUEST_METHOD": "DELETE", "CONTENT_LENGTH": "5000", "wsgi.input": stream}
    setup_testing_defaults(environ)
    wsgi(environ, lambda *_: None)

    assert asgi("DELETE", [b"a" * 2_500, b"a" * 2_500], content_length="5000") == (201, b"hello")
    assert asgi.received == 3
    assert stream.tell() == 5_000


@pytest.mark.parametrize("length", ["-1", "+5", "1.0", "0x5", "²", "1" * 30, "5 "])
def test_malformed_content_length(length: str) -> None:
    """A malformed Content-Length gets a 400, even if the server accepts it."""
    app = WsgiApp(handler := RecordingHandler())
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"hello")}
    setup_testing_defaults(environ)
    answer = b"".join(app(environ, lambda *_: None))

    assert b"invalid_request" in answer
    assert handler.requests == []


def test_body_without_end() -> None:
    """Without a length and a marked end nothing is read, because it could block for ever (PEP 3333)."""
    app = WsgiApp(handler := RecordingHandler())
    environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"hello")}
    setup_testing_defaults(environ)
    app(environ, lambda *_: None)

    assert handler.requests[0].body == b""


class Broken(io.BytesIO):
    """The stream of a client that has disconnected."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError


@pytest.mark.parametrize("stream", [io.BytesIO(b"hel"), Broken(b"")])
def test_wsgi_disconnect(stream: io.BytesIO) -> None:
    """A half-sent body never reaches the handler, and raises no error."""
    app = WsgiApp(handler := RecordingHandler())
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5", "wsgi.input": stream}
    setup_testing_defaults(environ)
    app(environ, lambda *_: None)

    assert handler.requests == []


def test_asgi_disconnect() -> None:
    """A client that disconnects gets no response."""
    app = Asgi()

    assert app("POST", [b"hel", None]) is None
    assert app.handler.requests == []


def test_body_timeout() -> None:
    """A client that stops sending gets a 408, and the handler is not called."""
    app = Asgi(body_timeout_s=0.05)
    original = app.app

    async def never(scope: Any, receive: Any, send: Any) -> None:
        async def wait() -> Any:
            await asyncio.Event().wait()

        await original(scope, wait, send)

    app.app = never  # type: ignore[assignment]
    answer = app("POST")

    assert (answer and answer[0]) == 408
    assert app.handler.requests == []


def test_handler_timeout() -> None:
    """A handler that hangs gives a 503 to its client and to the waiting ones, which never run later."""
    let_go, begun = Event(), []

    def hang(request: FullRequest) -> Reply:
        begun.append(request.query)
        let_go.wait(10)
        return Reply(200, [], b"")

    app = AsgiApp(hang, answer_timeout_s=0.1, threads=1)

    async def ask(query: bytes) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query}
        await app(scope, None, send)  # type: ignore[arg-type]
        return int(sent[0]["status"])

    async def ask_all() -> list[int]:
        hung = await asyncio.gather(*(ask(b"%d" % number) for number in range(3)))
        let_go.set()
        return [*hung, await ask(b"later")]

    assert asyncio.run(ask_all()) == [503, 503, 503, 200]
    assert begun == [b"0", b"later"]


def test_handler_runs_in_a_thread() -> None:
    """The handler does not run on the event loop."""
    app = Asgi()
    app("GET")

    assert app.handler.thread != get_ident()


def test_websocket() -> None:
    """WebSockets are closed."""
    app, sent = AsgiApp(RecordingHandler()), []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "websocket", "path": "/"}, None, send))  # type: ignore[arg-type]

    assert sent == ["websocket.close"]


def test_other_scopes() -> None:
    """Scopes other than HTTP and WebSocket raise ValueError."""
    with pytest.raises(ValueError, match="lifespan"):
        asyncio.run(AsgiApp(RecordingHandler())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]


def test_handler_that_needs_a_loop() -> None:
    """WsgiApp rejects a handler that needs an event loop in its constructor."""
    answer = RecordingHandler()
    answer.needs_loop = True  # type: ignore[attr-defined]

    with pytest.raises(TypeError, match="expected a handler with a Limiter"):
        WsgiApp(answer)
