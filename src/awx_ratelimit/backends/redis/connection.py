"""One connection to one server, which runs calls of scripts.

It bypasses the pool and the retries of redis-py: a call that the server may have run is never sent twice. After
anything but a complete reply, the connection is closed, because the next reply on it could belong to an earlier call.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from hiredis import pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from awx_ratelimit.backends.redis.scripts import Call, eval_all, eval_first, evalsha
from awx_ratelimit.backends.redis.server import Redirect, Server, not_sent_error
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline

#: The reply of a script; a BackendUnavailable if the server refused this call alone; a Redirect if it did not run it.
Reply: TypeAlias = Any
CLIENT_ERRORS = (RedisError, OSError)
_NO_REPLY = (BackendUnavailable, Redirect)
ASKING = ("ASKING",)


class ThreadCalls:
    """Runs the calls of threads, one at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._deadline = Deadline()
        self._connection: Any = None

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        raise NotImplementedError

    def run(self, calls: Sequence[Call], until_s: float | None = None) -> list[Any]:
        """The reply to each call, in one round trip. Raises BackendUnavailable if there are none.

        Everything, including opening the connection, ends by `until_s` or within the server's timeout.
        """
        until_s = until_s or time.monotonic() + self._server.timeout_s
        take = partial(self._lock.acquire, timeout=max(0.0, until_s - time.monotonic()))
        # A loop with one turn: between `acquire` and `try`, a signal handler could raise and leave the lock taken.
        for _ in iter(take, False):
            try:
                if not self._deadline.begin(until_s):
                    break
                return self._run(calls)
            finally:
                self._lock.release()
        raise not_sent_error(f"late: redis at {self._server.name} is still busy with the previous call")


class TaskCalls:
    """Runs the calls of the tasks of one event loop. The caller awaits each call before the next."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._deadline: TaskDeadline
        self._connection: Any = None

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        raise NotImplementedError

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """The reply to each call, in one round trip. Raises BackendUnavailable if there are none.

        Everything, including opening the connection, shares one deadline.
        """
        try:
            with TaskDeadline(self._server.timeout_s) as self._deadline:
                return await self._run(calls)
        except TimeoutError as error:
            raise self._server.on_failure(error) from error


class AsyncConnection(TaskCalls):
    """A connection to one server. It opens on first use."""

    async def _run(self, calls: Sequence[Call]) -> list[Reply]:
        try:
            replies = await self._exchange([evalsha(call) for call in calls])
            return await self._after_refusals(calls, replies) if any_refused(replies) else replies
        except BaseException as error:
            await self._drop()
            if isinstance(error, CLIENT_ERRORS):
                raise self._server.on_failure(error) from error
            raise

    async def _after_refusals(self, calls: Sequence[Call], replies: list[Reply]) -> list[Reply]:
        """Load the scripts that the server does not have and run their calls. Turn other refusals into errors."""
        # The server ran none of the calls that it answered with NOSCRIPT: it restarted, or its scripts were flushed.
        for eval_calls in (eval_first, eval_all):
            unknown = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if not unknown:
                break
            new_replies = await self._exchange(eval_calls([calls[number] for number in unknown]))
            for number, reply in zip(unknown, new_replies, strict=True):
                replies[number] = reply
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # This server is not the primary any more.
            await self._drop()
        return [self._server.on_refusal(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    async def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Reply]:
        connection = await self._open()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (ASKING, each)]
        await connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        replies = [await self._reply(connection) for _ in commands]
        return without_asking(replies) if self._server.asking else replies

    async def _open(self) -> Any:
        if (connection := self._connection) is not None and not await self._is_dead(connection):
            return connection
        await self._drop()
        connection = self._connection = await self._server.async_connection()
        await connection.connect()
        if self._connection is not connection:
            # `close` ran before there was a socket to close.
            await connection.disconnect(nowait=True)
            raise ConnectionAbortedError("the connection was closed while it was opened")
        self._deadline.resume()
        await connection.send_command("HELLO", check_health=False)
        self._server.check_greeting(await self._reply(connection))
        return connection

    async def _is_dead(self, connection: Any) -> bool:
        try:
            return bool(await connection.can_read())
        except CLIENT_ERRORS:
            return True

    async def _reply(self, connection: Any) -> Reply:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error

    async def _drop(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*CLIENT_ERRORS):
                await connection.disconnect()

    def forget(self) -> None:
        """Close the connection after its event loop has closed."""
        close_without_loop(self._connection)


def close_without_loop(connection: Any) -> None:
    """Close the socket of a redis-py connection whose event loop is closed, without a warning from asyncio."""
    writer = getattr(connection, "_writer", None)
    if writer is None:
        return
    connection._writer = None  # noqa: SLF001  # or redis-py warns
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


def raise_error(reply: Reply) -> Any:
    """Return `reply`, or raise it if it is an error."""
    if isinstance(reply, _NO_REPLY):
        raise reply if isinstance(reply, BackendUnavailable) else reply.error
    return reply


def any_refused(replies: list[Reply]) -> bool:
    """Whether the server refused one of the calls."""
    return any(isinstance(reply, ResponseError) for reply in replies)


def without_asking(replies: list[Reply]) -> list[Reply]:
    """The replies without those to ASKING. A refused ASKING stands for its call."""
    return [
        asking if isinstance(asking, ResponseError) else reply
        for asking, reply in zip(replies[::2], replies[1::2], strict=True)
    ]
