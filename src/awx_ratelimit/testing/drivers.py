"""In-process servers for the adapter contract: one small app for ASGI and WSGI, and drivers that send requests to it.

Paths of the app: ``/ok``; ``/slow`` (two chunks, and the client acts between them); ``/own`` (sets rate-limit headers
itself); ``/before``, ``/during`` and ``/after`` (raises there); ``/decision`` (returns the decision that it sees). All
other paths return 404, so that tests of rules can use any path.
"""

import asyncio
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

Lines = Sequence[tuple[bytes, bytes]]


class Response(NamedTuple):
    """The response that the client received."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, or None if it is missing. Raises AssertionError if it occurs more than once."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, values
        return values[0] if values else None


class AppError(Exception):
    """The error that the app raises."""


class Driver(Protocol):
    """A minimal server around one adapter."""

    def request(self, method: str, path: str, headers: Lines = ()) -> Response:
        """Send a request and return the whole response. Errors of the app propagate."""
        ...

    def held(self, path: str, headers: Lines = ()) -> AbstractContextManager[Response]:
        """A response that has started; its body ends when the block ends."""
        ...

    def abandoned(self, path: str, headers: Lines = ()) -> None:
        """Start a response and disconnect in the middle of it."""
        ...


_TYPE = (b"Content-Type", b"text/plain")
_OWN = [(b"RateLimit", b'"app";r=1'), _TYPE, (b"ratelimit-policy", b'"app";q=1')]


class AsgiDriver:
    """Calls `adapt(app)` as an ASGI server does, on its own event loop."""

    def __init__(self, adapt: Callable[[Any], Any]) -> None:
        self._app = adapt(_asgi_app)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Close the event loop."""
        self._loop.close()

    def request(self, method: str, path: str, headers: Lines = ()) -> Response:
        exchange = _AsgiExchange(method, path, headers)
        exchange.resume.set()
        self._loop.run_until_complete(self._app(exchange.scope, exchange.receive, exchange.send))
        return exchange.response()

    @contextmanager
    def held(self, path: str, headers: Lines = ()) -> Iterator[Response]:
        exchange, task = self._start(path, headers)
        try:
            yield exchange.response()
        finally:
            exchange.resume.set()
            self._loop.run_until_complete(task)

    def abandoned(self, path: str, headers: Lines = ()) -> None:
        """See Driver. A server may cancel the task."""
        _, task = self._start(path, headers)
        task.cancel()
        self._loop.run_until_complete(asyncio.wait([task]))

    def _start(self, path: str, headers: Lines) -> tuple["_AsgiExchange", "asyncio.Task[None]"]:
        exchange = _AsgiExchange("GET", path, headers)
        task = self._loop.create_task(self._app(exchange.scope, exchange.receive, exchange.send))
        self._loop.run_until_complete(asyncio.wait_for(exchange.started.wait(), 5))
        return exchange, task


class _AsgiExchange:
    def __init__(self, method: str, path: str, headers: Lines) -> None:
        self.resume = asyncio.Event()
        self.started = asyncio.Event()
        self.messages: list[Any] = []
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "headers": [(name.lower(), value) for name, value in headers], "client": ("192.0.2.1", 1), "root_path": "",
            "resume": self.resume,
        }  # fmt: skip

    async def receive(self) -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.started.set()

    def response(self) -> Response:
        start, *bodies = self.messages
        return Response(
            start["status"], list(start["headers"]), b"".join(message.get("body", b"") for message in bodies)
        )


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
    await scope["resume"].wait()
    await send({"type": "http.response.body", "body": b" bye"})
    if path == "/after":
        raise AppError


class WsgiDriver:
    """Calls `adapt(app)` as a WSGI server does, with the PEP 3333 validator around the adapter and around the app."""

    def __init__(self, adapt: Callable[[Any], Any]) -> None:
        self._app = validator(adapt(validator(_wsgi_app)))
        self._unvalidated_app = adapt(_wsgi_app)

    def request(self, method: str, path: str, headers: Lines = ()) -> Response:
        with self._exchange(self._app, method, path, headers) as (response, body):
            whole = b"".join(body)
            started: Response = response()
        return started._replace(body=whole)

    @contextmanager
    def held(self, path: str, headers: Lines = ()) -> Iterator[Response]:
        with self._exchange(self._app, "GET", path, headers) as (response, body):
            chunks = iter(body)
            next(chunks)
            yield response()

    def abandoned(self, path: str, headers: Lines = ()) -> None:
        """See Driver. A server may drop the body without closing it, although PEP 3333 forbids that."""
        body = self._unvalidated_app(_environ("GET", path, headers), lambda *_: None)
        next(iter(body))

    @contextmanager
    def _exchange(self, app: Any, method: str, path: str, headers: Lines) -> Iterator[Any]:
        started: list[Any] = []

        def start_response(status: str, lines: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            started[:] = [int(status[:3]), [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]]
            return lambda _: None

        body: Any = app(_environ(method, path, headers), start_response)
        try:
            yield lambda: Response(started[0], started[1], b""), body
        finally:
            body.close()


def _environ(method: str, path: str, headers: Lines) -> dict[str, Any]:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1")}
    environ |= {"SCRIPT_NAME": "", "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.1", "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    for name, value in headers:
        key = f"HTTP_{name.decode().upper().replace('-', '_')}"
        # Servers join a repeated header with a comma, some with a space after it and some without.
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
