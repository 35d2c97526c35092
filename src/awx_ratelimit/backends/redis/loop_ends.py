"""The connections of an event loop end with it, though nobody says when a loop ends.

asyncio finishes the async generators of a loop before it closes the loop: `asyncio.run`, `asyncio.Runner`, uvloop and
the test plugins do. So a generator that was begun in the loop closes the connections. Somebody who closes a loop by
hand may leave that out; then only the sockets can still be closed.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any


def at_end_of_loop(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """Await `close()` when the running event loop ends, or when the generator that is returned is collected before."""
    end = _suspended(close)
    # To begin it, no turn of the loop is needed: it suspends at once.
    with suppress(StopIteration):
        end.__anext__().send(None)
    return end


async def _suspended(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await close()


def close_without_loop(connection: Any) -> None:
    """Close the socket of a client's connection whose loop is closed. No part of asyncio warns of it afterwards."""
    writer = getattr(connection, "_writer", None)
    if writer is None:
        return
    connection._writer = None  # noqa: SLF001  # or the client warns
    transport = writer.transport
    tls = getattr(transport, "_ssl_protocol", None)
    if tls is not None:
        transport._closed = True  # noqa: SLF001  # its own close() needs the loop
        transport = tls._transport  # noqa: SLF001
    socket = getattr(transport, "_sock", None)
    if socket is not None:
        transport._sock = None  # noqa: SLF001
        transport._closing = True  # noqa: SLF001  # or its StreamWriter warns
        socket.close()
