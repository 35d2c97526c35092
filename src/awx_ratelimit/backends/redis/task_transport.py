"""A connection to a server for the tasks of one event loop: an asyncio Protocol without streams, tasks and timers.

Its replies arrive in a callback, so that no cancellation can come between a call and its reply.
"""

import asyncio
import select
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from awx_ratelimit.backends.redis.endpoint import Endpoint
from awx_ratelimit.backends.redis.replies import CLOSED, ReplyReader
from awx_ratelimit.backends.redis.thread_transport import failed, packed
from awx_ratelimit.runtime.deadlines import TaskDeadline

#: Called once with the replies of an exchange, or with the error that ended the connection.
Done: TypeAlias = Callable[[Any], Any]
#: Iterations of an event loop until it has read what lies in a socket.
_TURNS = 4


class TaskTransport(asyncio.Protocol):
    """An open connection to a server. After an error it is closed, and fails the exchange in flight.

    `greeting` is the reply to HELLO.
    """

    def __init__(self) -> None:
        self._reader = ReplyReader()
        self._done: Done | None = None
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._lost = self._loop.create_future()
        #: Whether the server has sent something that nothing had asked for.
        self._has_early_data = False
        self._unread: Callable[[int], Any] = bool
        self.is_closed = False
        self.greeting: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        poller = select.poll()
        poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._unread = poller.poll

    def send(self, data: bytes, count: int, done: Done) -> None:
        """Send `data`, and call `done` once: with the `count` replies, or with an error. One exchange at a time."""
        self._reader.begin(count)
        self._done = done
        self._transport.write(data)
        if self.is_closed or self._has_early_data:
            self._loop.call_soon(self._read_early_data)

    async def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send `data`, and return the `count` replies. Raises RedisError. Whoever stops waiting must drop it."""
        replies: asyncio.Future[list[Any]] = self._loop.create_future()
        self.send(data, count, partial(_tell, replies))
        return await replies

    async def ask(self, *command: Any) -> Any:
        """The reply to one command. Raises it if it is an error."""
        (reply,) = await self.exchange(packed([command]), 1)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def data_received(self, data: bytes) -> None:
        done, reader = self._done, self._reader
        try:
            if not reader.feed(data):
                return
            if done is None:
                self._has_early_data = True
                return
        except RedisError as error:
            self.drop(error)
            return
        self._done = None
        self._has_early_data = reader.has_more()
        done(reader.replies)

    def _read_early_data(self) -> None:
        """A server that accepts no more clients says so before it has read anything, and closes the connection."""
        self.data_received(b"")
        if self.is_closed:
            self.drop()

    def eof_received(self) -> None:
        self.is_closed = True

    def connection_lost(self, error: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        self.drop(failed("read", error) if error else RedisConnectionError(CLOSED))

    def is_ready(self) -> bool:
        """Whether an exchange may begin at once: the server has neither closed the connection nor sent anything."""
        return not (self.is_closed or self._has_early_data or self._done or self._unread(0))

    async def is_dead(self) -> bool:
        """Whether the server has closed the connection, or sent what nothing asked for."""
        for _ in range(_TURNS):
            if self.is_closed or not self._unread(0):
                break
            # It may also be a record of TLS that carries no data.
            await asyncio.sleep(0)
        return self.is_closed or self._has_early_data

    def drop(self, error: BaseException | None = None) -> None:
        """Close the connection without waiting for the server. An exchange in flight fails with `error`."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
        done, self._done = self._done, None
        if done is not None:
            done(error or RedisConnectionError(CLOSED))

    async def close(self) -> None:
        """Close the connection, and wait until its socket is closed. An exchange in flight ends with CancelledError."""
        self.drop(asyncio.CancelledError())
        await self._lost

    def forget(self) -> None:
        """Close the socket after the event loop has closed, without a warning from asyncio."""
        transport = self._transport
        tls = getattr(transport, "_ssl_protocol", None)
        if tls is not None:
            transport._closed = True  # noqa: SLF001  # its own close() needs the loop
            transport = tls._transport  # noqa: SLF001
        socket = getattr(transport, "_sock", None)
        if socket is not None:
            transport._sock = None  # noqa: SLF001
            socket.close()


async def async_open_transport(endpoint: Endpoint, deadline: TaskDeadline) -> TaskTransport:
    """A new connection, after its handshake. Raises RedisError. Only opening it counts as a step of `deadline`."""
    loop = asyncio.get_running_loop()
    try:
        if endpoint.path:
            _, transport = await loop.create_unix_connection(TaskTransport, endpoint.path)
        else:
            tls: dict[str, Any] = {}
            if endpoint.trust is not None:
                tls = {"ssl": endpoint.trust.context(), "server_hostname": endpoint.host}
            _, transport = await loop.create_connection(TaskTransport, endpoint.host, endpoint.port, **tls)
    except OSError as error:
        raise failed("connect", error) from error
    deadline.resume()
    try:
        handshake = endpoint.handshake()
        transport.greeting = endpoint.greeting(await transport.exchange(packed(handshake), len(handshake)))
    except BaseException:
        transport.drop()
        raise
    return transport


def _tell(future: "asyncio.Future[list[Any]]", outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, asyncio.CancelledError):
        future.cancel()
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
