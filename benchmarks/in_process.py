"""Answers one request of an app in process, without a network."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

from benchmarks.peers.apps import APPS, App

Answer = Callable[[], int]
_HEADERS = [
    (b"host", b"127.0.0.1"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
    (b"connection", b"keep-alive"),
]  # fmt: skip


def answerer(name: str) -> Answer:
    """A function that answers one request of the app `name` and returns the status."""
    app = APPS[name][0]()
    return _wsgi(app) if app.is_wsgi else _asgi(app)


def _asgi(app: App) -> Answer:
    loop = asyncio.new_event_loop()
    status = 0
    headers = [*_HEADERS, (b"x-api-key", app.key.encode())]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    async def request() -> int:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/v1/agents",
            "raw_path": b"/v1/agents", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await app.call(scope, receive, send)
        return status

    return lambda: loop.run_until_complete(request())


def _wsgi(app: App) -> Answer:
    status = 0

    def start_response(line: str, _headers: Any, _exc_info: Any = None) -> Any:
        nonlocal status
        status = int(line[:3])

    def request() -> int:
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/v1/agents", "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "HTTP_HOST": "127.0.0.1", "HTTP_ACCEPT": "*/*", "HTTP_X_API_KEY": app.key,
        }  # fmt: skip
        body = app.call(environ, start_response)
        for _ in body:
            pass
        body.close()
        return status

    return request
