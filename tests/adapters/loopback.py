"""Servers of frameworks in the event loop of a test, and clients with addresses of their own on loopback."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from tests.adapters.route_limit_laws import Answer, Get

_Result = TypeVar("_Result")


class Served:
    """A test class whose servers run in `loop`. Append to `closers` what ends them."""

    @pytest.fixture(autouse=True)
    def _event_loop(self) -> Iterator[None]:
        """The event loop of the test."""
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.closers: list[Callable[[], Awaitable[Any]]] = []
        yield
        for close in reversed(self.closers):
            self.run(_ended(close))
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run `coroutine` in the loop."""
        return self.loop.run_until_complete(coroutine)

    def getter(self, port: int) -> Get:
        """Sends GETs to the server on `port`."""

        def get(path: str, key: str | None = None, address: str = "192.0.2.1") -> Answer:
            return self.run(asyncio.wait_for(fetched(port, path, key, address), 10))

        return get


async def becomes(value: Callable[[], _Result], expected: _Result) -> _Result:
    """`value()`, as soon as it is `expected`, or after 10 seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while value() != expected:  # noqa: ASYNC110  # a backend has no event for a release
                await asyncio.sleep(0)
    return value()


async def _ended(close: Callable[[], Awaitable[Any]]) -> None:
    await close()


async def fetched(port: int, path: str, key: str | None, address: str, *lines: str) -> Answer:
    """The response to a GET from the address on loopback whose last three bytes are those of `address`."""
    local = f"127.{address.partition('.')[2]}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(local, 0))
    lines = (f"GET {path} HTTP/1.1", "Host: test", "Connection: close", *lines, *([f"X-API-Key: {key}"] if key else []))
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status, *sent = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for name, value in (line.split(": ", 1) for line in sent):
        before = headers.get(name.lower())
        headers[name.lower()] = value if before is None else f"{before}|{value}"
    return Answer(int(status.split()[1]), headers, body)
