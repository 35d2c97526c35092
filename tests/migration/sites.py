"""Sends requests to the apps of examples/migration, in this process and on a clock that stands still."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from werkzeug.test import Client

from awx_ratelimit.testing import ManualClock

ADDRESS = "192.0.2.1"


class Answer(NamedTuple):
    """What the client receives; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str


class Sender(Protocol):
    """Sends to one app."""

    def send(self, target: str, method: str, address: str, headers: Mapping[str, str]) -> Answer:
        """Send one request and return the response; an error of the app is a 500."""
        ...

    def at_once(self, target: str, count: int) -> list[Answer]:
        """Send `count` requests, none of which waits for another."""
        ...


class Site:
    """An app with unused limits, the clock that its limiter reads, and the module that it is defined in."""

    def __init__(self, sender: Sender, clock: ManualClock, module: ModuleType) -> None:
        self._sender = sender
        self.clock = clock
        self.module = module

    def get(self, target: str, *, address: str = ADDRESS, **headers: str) -> Answer:
        """The response to a GET; ``x_api_key=`` is the header X-Api-Key."""
        return self.send("GET", target, address=address, **headers)

    def send(self, method: str, target: str, *, address: str = ADDRESS, **headers: str) -> Answer:
        """The response to a request."""
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._sender.send(target, method, address, lines)

    def many(self, target: str, count: int, method: str = "GET") -> list[Answer]:
        """The responses to `count` requests, one after another, at one moment of the clock."""
        return [self.send(method, target) for _ in range(count)]

    def at_once(self, target: str, count: int) -> list[Answer]:
        """The responses to `count` requests that are sent at the same time."""
        return self._sender.at_once(target, count)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(int(seconds * 1_000))


class AsgiSender:
    """Calls an ASGI app as a server does, on its own event loop."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._loop = loop

    def send(self, target: str, method: str, address: str, headers: Mapping[str, str]) -> Answer:
        return self._loop.run_until_complete(self._exchange(target, method, address, headers))

    def at_once(self, target: str, count: int) -> list[Answer]:
        return self._loop.run_until_complete(self._all(target, count))

    async def _all(self, target: str, count: int) -> list[Answer]:
        return await asyncio.gather(*(self._exchange(target, "GET", ADDRESS, {}) for _ in range(count)))

    async def _exchange(self, target: str, method: str, address: str, headers: Mapping[str, str]) -> Answer:
        path, _, query = target.partition("?")
        lines = [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": lines,
            "client": (address, 4711),
            "server": ("localhost", 80),
            "state": {},
        }
        sent: list[Any] = []
        received = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            message = next(received, None)
            return message if message is not None else await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await self._app(scope, receive, send)
        except Exception:
            # Starlette sends its 500 before it raises; anything else would be the server's.
            if not sent:
                return Answer(500, {}, "")
        return _answer(sent)


class WsgiSender:
    """Calls a WSGI app as a server does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def send(self, target: str, method: str, address: str, headers: Mapping[str, str]) -> Answer:
        try:
            # Without it, a client of its own would send the cookies of the response before.
            client = Client(self._app, use_cookies=False)
            with client.open(target, method=method, headers=headers, environ_base={"REMOTE_ADDR": address}) as got:
                names = {name.lower(): value for name, value in got.headers}
                return Answer(got.status_code, names, got.get_data(as_text=True))
        except Exception:
            return Answer(500, {}, "")

    def at_once(self, target: str, count: int) -> list[Answer]:
        with ThreadPoolExecutor(count) as threads:
            return [*threads.map(lambda _: self.send(target, "GET", ADDRESS, {}), range(count))]


def _answer(messages: Iterable[Any]) -> Answer:
    start, *rest = messages
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(each.get("body", b"") for each in rest).decode())
