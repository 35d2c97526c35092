"""In-process servers for the adapters' contract: one small app in both dialects, and what drives it.

The app answers by path: ``/ok``; ``/slow`` (two chunks with the client in between); ``/own`` (rate-limit headers of
its own); ``/before``, ``/during`` and ``/after`` (it raises there); ``/decision`` (what it sees of the decision). All
else is a 404, so that a path which is not the app's own still shows what the limiter did.
"""

import asyncio
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

Lines = Sequence[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """What the client got."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that stands once; None where it does not stand."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, values
        return values[0] if values else None


class AppError(Exception):
    """What the app raises."""


class Driver(Protocol):
    """A server in miniature around one adapter."""

    def request(self, method: str, path: str, headers: Lines = ()) -> Answer:
        """One whole exchange. What the app raises comes through."""
        ...

    def held(self, path: str, headers: Lines = ()) -> AbstractContextManager[Answer]:
        """A response that has begun and whose body ends with the block."""
        ...

    def abandoned(self, path: str, headers: Lines = ()) -> None:
        """A response that has begun and whose client went away in the middle."""
        ...


_TYPE = (b"Content-Type", b"text/plain")
_OWN = [(b"RateLimit", b'"app";r=1'), _TYPE, (b"ratelimit-policy", b'"app";q=1')]


class AsgiDriver:
    """Drives `adapt(app)` as an ASGI server does, on an event loop of its own."""

    def __init__(self, adapt: Callable[[Any], Any]) -> None:
        self._app = adapt(_asgi_app)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """End the event loop."""
        self._loop.close()

    def request(self, method: str, path: str, headers: Lines = ()) -> Answer:
        """See Driver."""
        exchange = _AsgiExchange(method, path, headers)
        exchange.go_on.set()
        self._loop.run_until_complete(self._app(exchange.scope, exchange.receive, exchange.send))
        return exchange.answer()

    @contextmanager
    def held(self, path: str, headers: Lines = ()) -> Iterator[Answer]:
        """See Driver."""
        exchange, task = self._begun(path, headers)
        try:
            yield exchange.answer()
        finally:
            exchange.go_on.set()
            self._loop.run_until_complete(task)

    def abandoned(self, path: str, headers: Lines = ()) -> None:
        """See Driver: a server may cancel the task."""
        _, task = self._begun(path, headers)
        task.cancel()
        self._loop.run_until_complete(asyncio.wait([task]))

    def _begun(self, path: str, headers: Lines) -> tuple["_AsgiExchange", "asyncio.Task[None]"]:
        exchange = _AsgiExchange("GET", path, headers)
        task = self._loop.create_task(self._app(exchange.scope, exchange.receive, exchange.send))
        self._loop.run_until_complete(asyncio.wait_for(exchange.begun.wait(), 5))
        return exchange, task


class _AsgiExchange:
    def __init__(self, method: str, path: str, headers: Lines) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.messages: list[Any] = []
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "headers": [(name.lower(), value) for name, value in headers], "client": ("192.0.2.1", 1), "root_path": "",
            "go_on": self.go_on,
        }  # fmt: skip

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.begun.set()

    def answer(self) -> Answer:
        start, *bodies = self.messages
        return Answer(start["status"], list(start["headers"]), b"".join(message["body"] for message in bodies))


async def _asgi_app(scope: Any, _receive: Any, send: Any) -> None:
    path = scope["path"]
    if path == "/before":
        raise AppError
    text = str(scope["state"]["rate_limit"]).encode() if path == "/decision" else b"hello"
    headers = _OWN if path == "/own" else [_TYPE]
    await send({"type": "http.response.start", "status": _status(path), "headers": headers})
    await send({"type": "http.response.body", "body": text, "more_body": True})
    if path == "/during":
        raise AppError
    await scope["go_on"].wait()
    await send({"type": "http.response.body", "body": b" bye"})
    if path == "/after":
        raise AppError


class WsgiDriver:
    """Drives `adapt(app)` as a WSGI server does, with the validator of PEP 3333 around it and inside it."""

    def __init__(self, adapt: Callable[[Any], Any]) -> None:
        self._app = validator(adapt(validator(_wsgi_app)))
        self._bare = adapt(_wsgi_app)

    def request(self, method: str, path: str, headers: Lines = ()) -> Answer:
        """See Driver."""
        with self._exchange(self._app, method, path, headers) as (answer, body):
            whole = b"".join(body)
            started: Answer = answer()
        return started._replace(body=whole)

    @contextmanager
    def held(self, path: str, headers: Lines = ()) -> Iterator[Answer]:
        """See Driver."""
        with self._exchange(self._app, "GET", path, headers) as (answer, body):
            chunks = iter(body)
            next(chunks)
            yield answer()

    def abandoned(self, path: str, headers: Lines = ()) -> None:
        """See Driver: a server may drop the body without closing it, though PEP 3333 forbids that."""
        body = self._bare(_environ("GET", path, headers), lambda *_: None)
        next(iter(body))

    @contextmanager
    def _exchange(self, app: Any, method: str, path: str, headers: Lines) -> Iterator[Any]:
        started: list[Any] = []

        def start_response(status: str, lines: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            started[:] = [int(status[:3]), [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]]
            return lambda _: None

        body: Any = app(_environ(method, path, headers), start_response)
        try:
            yield lambda: Answer(started[0], started[1], b""), body
        finally:
            body.close()


def _environ(method: str, path: str, headers: Lines) -> dict[str, Any]:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1")}
    environ |= {"SCRIPT_NAME": "", "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.1", "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    for name, value in headers:
        key = f"HTTP_{name.decode().upper().replace('-', '_')}"
        # Real servers join a header that stands twice with a comma; with and without a space behind it are both seen.
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def _wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/before":
        raise AppError
    text = str(environ["awx_ratelimit.decision"]).encode() if path == "/decision" else b"hello"
    headers = _OWN if path == "/own" else [_TYPE]
    phrase = {200: "200 OK", 404: "404 Not Found"}[_status(path)]
    lines = [(name.decode(), value.decode()) for name, value in headers]
    start_response(phrase, lines)
    return _wsgi_body(path, text)


def _wsgi_body(path: str, text: bytes) -> Iterator[bytes]:
    yield text
    if path == "/during":
        raise AppError
    yield b" bye"
    if path == "/after":
        raise AppError


def _status(path: str) -> int:
    return 200 if path in ("/ok", "/slow", "/own", "/before", "/during", "/after", "/decision") else 404
