"""What answers whole requests, as an app of ASGI and of WSGI: bodies within bounds, and the same bytes from both."""

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

MOST = 1_000
TOO_LARGE = (
    b'{"code":"request_too_large","type":"invalid_request_error","message":"The body of the request is too large."}'
)


class Seen:
    """Answers with what it was asked, and keeps it."""

    def __init__(self) -> None:
        self.wholes: list[FullRequest] = []
        self.thread = 0

    def __call__(self, whole: FullRequest) -> Reply:
        self.wholes.append(whole)
        self.thread = get_ident()
        return Reply(201, [(b"content-type", b"text/plain"), (b"content-length", b"5")], b"hello")


class Asgi:
    """Sends requests to AsgiApp, as a server does."""

    def __init__(self, **options: Any) -> None:
        self.seen = Seen()
        self.app = AsgiApp(self.seen, **{"max_body_bytes": MOST, **options})
        self.received = 0

    def __call__(self, method: str, chunks: Iterable[bytes | None] = (), **headers: str) -> tuple[int, bytes] | None:
        """A request whose body comes in chunks; None: the client leaves. The status and body, where there were any."""
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
    """Sends requests to WsgiApp, as a server does that knows where a body ends, within the validator of PEP 3333."""

    def __init__(self, **options: Any) -> None:
        self.seen = Seen()
        self.app = WsgiApp(self.seen, **{"max_body_bytes": MOST, **options})

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


def test_a_whole_request_is_handed_over(app: Any) -> None:
    """Method, path, query, headers and body come through, the type of the body too; the reply goes out as it is."""
    answer = app("POST", [b"one ", b"two"], content_type="application/json", authorization="Bearer x")
    request, query, body = app.seen.wholes[0]

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


def test_head_gets_no_body(app: Any) -> None:
    """The reply's headers are sent, and its body is not."""
    assert app("HEAD") == (201, b"")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_where_no_body_is_meant_none_is_read(app: Any, method: str) -> None:
    """What comes with such a request is not waited for."""
    app(method, [b"a" * 5_000])

    assert app.seen.wholes[0].body == b""


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [([b"a" * MOST], (201, b"hello")), ([b"a" * MOST, b"a"], (413, TOO_LARGE)), ([b"a"] * 1_001, (413, TOO_LARGE))],
)
def test_a_body_has_bounds(app: Any, chunks: list[bytes], expected: tuple[int, bytes]) -> None:
    """A body without a length is read so far and no further; what is longer is a 413, and answered by nobody else."""
    assert app("POST", chunks) == expected
    assert len(app.seen.wholes) == int(expected[0] == 201)


@pytest.mark.parametrize(("max_drain_bytes", "received"), [(0, 2), (600, 3), (3_000, 7)])
def test_a_long_body_is_not_read_to_its_end(max_drain_bytes: int, received: int) -> None:
    """A body of 600 kB is read as far as its size becomes known, and then `max_drain_bytes` further."""
    app = Asgi(max_drain_bytes=max_drain_bytes)

    assert app("POST", [b"a" * 600] * 1_000) == (413, TOO_LARGE)
    assert app.received == received


@pytest.mark.parametrize("drained", [0, 2_000])
def test_a_body_with_a_length_is_only_drained_where_it_is_too_long(drained: int) -> None:
    """WSGI believes the length: a body that is too long is read only to keep its connection whole, within the bound."""
    app = Wsgi(max_drain_bytes=drained)
    stream = io.BytesIO(b"a" * 5_000)
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5000", "wsgi.input": stream}
    setup_testing_defaults(environ)
    body = app.app(environ, lambda *_: None)

    assert b"".join(body) == TOO_LARGE
    assert stream.tell() == drained


def test_a_body_that_ends_where_it_is_too_long_is_not_waited_for() -> None:
    """After the last message of a body nothing more is received."""
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


def test_a_body_that_is_not_wanted_is_drained() -> None:
    """A DELETE with a body is answered without it, and the body is read so that the connection stays whole."""
    asgi, wsgi = Asgi(), WsgiApp(Seen())
    stream = io.BytesIO(b"a" * 5_000)
    environ = {"REQUEST_METHOD": "DELETE", "CONTENT_LENGTH": "5000", "wsgi.input": stream}
    setup_testing_defaults(environ)
    wsgi(environ, lambda *_: None)

    assert asgi("DELETE", [b"a" * 2_500, b"a" * 2_500], content_length="5000") == (201, b"hello")
    assert asgi.received == 3
    assert stream.tell() == 5_000


@pytest.mark.parametrize("length", ["-1", "+5", "1.0", "0x5", "²", "1" * 30, "5 "])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    """A server that lets it through is no reason to read by it."""
    app = WsgiApp(seen := Seen())
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"hello")}
    setup_testing_defaults(environ)
    answer = b"".join(app(environ, lambda *_: None))

    assert b"invalid_request" in answer
    assert seen.wholes == []


def test_a_body_without_an_end_is_not_read() -> None:
    """Where the server does not say that the stream ends, reading on would wait for ever (PEP 3333)."""
    app = WsgiApp(seen := Seen())
    environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"hello")}
    setup_testing_defaults(environ)
    app(environ, lambda *_: None)

    assert seen.wholes[0].body == b""


class Broken(io.BytesIO):
    """A stream whose client has left."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError


@pytest.mark.parametrize("stream", [io.BytesIO(b"hel"), Broken(b"")])
def test_a_client_that_leaves_in_the_middle_is_not_heard(stream: io.BytesIO) -> None:
    """Half a body is none, and no error of ours."""
    app = WsgiApp(seen := Seen())
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5", "wsgi.input": stream}
    setup_testing_defaults(environ)
    app(environ, lambda *_: None)

    assert seen.wholes == []


def test_an_asgi_client_that_leaves_is_not_answered() -> None:
    """Nobody is there who could be."""
    app = Asgi()

    assert app("POST", [b"hel", None]) is None
    assert app.seen.wholes == []


def test_a_body_that_does_not_come_is_a_408() -> None:
    """A client that says nothing more holds neither a thread nor a task for ever."""
    app = Asgi(body_timeout_s=0.05)
    original = app.app

    async def never(scope: Any, receive: Any, send: Any) -> None:
        async def wait() -> Any:
            await asyncio.Event().wait()

        await original(scope, wait, send)

    app.app = never  # type: ignore[assignment]
    answer = app("POST")

    assert (answer and answer[0]) == 408
    assert app.seen.wholes == []


def test_nobody_waits_without_end() -> None:
    """An answer that does not come is a 503; whoever stood behind it is told so too, and is not carried out later."""
    let_go, begun = Event(), []

    def hang(whole: FullRequest) -> Reply:
        begun.append(whole.query)
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


def test_what_blocks_does_so_in_a_thread() -> None:
    """The event loop is not the one that answers."""
    app = Asgi()
    app("GET")

    assert app.seen.thread != get_ident()


def test_websockets_are_refused() -> None:
    """There is nothing to talk about."""
    app, sent = AsgiApp(Seen()), []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "websocket", "path": "/"}, None, send))  # type: ignore[arg-type]

    assert sent == ["websocket.close"]


def test_other_scopes_are_an_error() -> None:
    """An app that is mounted has no life of its own."""
    with pytest.raises(ValueError, match="lifespan"):
        asyncio.run(AsgiApp(Seen())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]


def test_wsgi_has_no_event_loop() -> None:
    """What has to be answered on one is refused when it is mounted, and not with its first request."""
    answer = Seen()
    answer.needs_loop = True  # type: ignore[attr-defined]

    with pytest.raises(TypeError, match="give the API a Limiter"):
        WsgiApp(answer)
