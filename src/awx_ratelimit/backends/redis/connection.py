"""One connection to one server, which runs calls of scripts.

A call that the server may have run is never sent twice. After anything but a complete reply, the connection is closed,
because the next reply on it could belong to an earlier call.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from awx_ratelimit.backends.redis.endpoint import Command
from awx_ratelimit.backends.redis.scripts import Call, eval_all, eval_first, evalsha
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.task_transport import Done, TaskTransport
from awx_ratelimit.backends.redis.thread_transport import ThreadTransport, packed
from awx_ratelimit.backends.remote.replies import Reply, not_sent_error
from awx_ratelimit.runtime.call_timer import CallTimer
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline

CLIENT_ERRORS = (RedisError, OSError)
ASKING: Command = ("ASKING",)


class ThreadCalls:
    """Runs the calls of threads, one at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._deadline = Deadline()
        self._connection: ThreadTransport | None = None
        self._closings = 0

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
    """Runs the calls of the tasks of one event loop, one batch after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._timer = CallTimer(self._loop, server.timeout_s, self._on_timeout)
        self._deadline: TaskDeadline
        self._connection: TaskTransport | None = None
        self._closings = 0
        self._task: asyncio.Task[list[Reply]] | None = None

    async def _run(self, calls: Sequence[Call], replies: list[Reply] | None = None) -> list[Reply]:
        raise NotImplementedError

    def _drop(self) -> None:
        raise NotImplementedError

    def start(self, calls: Sequence[Call], done: Done) -> None:
        """Run `calls`, and call `done` once with the reply to each, or with BackendUnavailable or CancelledError.

        Everything, including opening the connection, shares one deadline. On an open connection it costs no task.
        """
        connection = self._connection
        if connection is not None and connection.is_ready() and not self._server.asking:
            connection.send(packed([evalsha(call) for call in calls]), len(calls), partial(self._on_end, calls, done))
            self._timer.begin()
        else:
            self._start_task(done, self._server.timeout_s, calls)

    def _start_task(self, done: Done, left_s: float, calls: Sequence[Call], replies: list[Reply] | None = None) -> None:
        self._task = self._loop.create_task(self._bounded(left_s, calls, replies))
        # Unlike the end of a coroutine, this runs even if the task is cancelled before it begins.
        self._task.add_done_callback(partial(_tell, done))

    def _on_end(self, calls: Sequence[Call], done: Done, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            self._timer.end()
            self._drop()
            done(self._failure(outcome))
        elif any_refused(outcome):
            left_s = self._timer.left_s()
            self._timer.end()
            self._start_task(done, left_s, calls, outcome)
        else:
            self._timer.end()
            done(outcome)

    def _failure(self, error: BaseException) -> BaseException:
        if not isinstance(error, CLIENT_ERRORS):
            # The connection was closed by this process.
            return error
        failure = self._server.on_failure(error)
        failure.__cause__ = error
        return failure

    def _on_timeout(self) -> None:
        assert self._connection is not None, "a call is in flight"
        self._connection.drop(TimeoutError())

    async def _bounded(self, left_s: float, calls: Sequence[Call], replies: list[Reply] | None) -> list[Reply]:
        try:
            with TaskDeadline(left_s) as self._deadline:
                return await self._run(calls, replies)
        except TimeoutError as error:
            raise self._server.on_failure(error) from error


def _tell(done: Done, task: "asyncio.Task[list[Reply]]") -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    done(task.result() if error is None else error)


class AsyncConnection(TaskCalls):
    """A connection to one server. It opens on first use."""

    async def _run(self, calls: Sequence[Call], replies: list[Reply] | None = None) -> list[Reply]:
        """Run `calls`, or only what is left to do after `replies`."""
        try:
            if replies is None:
                replies = await self._exchange([evalsha(call) for call in calls])
            return await self._after_refusals(calls, replies) if any_refused(replies) else replies
        except BaseException as error:
            self._drop()
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
            self._drop()
        return [self._server.on_refusal(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        connection = await self._open()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (ASKING, each)]
        replies = await connection.exchange(packed(commands), len(commands))
        return without_asking(replies) if self._server.asking else replies

    async def _open(self) -> TaskTransport:
        if (connection := self._connection) is not None and not await connection.is_dead():
            return connection
        self._drop()
        closings = self._closings
        connection = await self._server.async_open(self._deadline)
        if closings != self._closings:
            connection.drop()
            raise ConnectionAbortedError("the connection was closed while it was opened")
        self._connection = connection
        self._server.check_greeting(connection.greeting)
        return connection

    def _drop(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._closings += 1
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def forget(self) -> None:
        """Close the connection after its event loop has closed."""
        if self._connection is not None:
            self._connection.forget()


def any_refused(replies: list[Reply]) -> bool:
    """Whether the server refused one of the calls."""
    return any(isinstance(reply, ResponseError) for reply in replies)


def without_asking(replies: list[Reply]) -> list[Reply]:
    """The replies without those to ASKING. A refused ASKING stands for its call."""
    return [
        asking if isinstance(asking, ResponseError) else reply
        for asking, reply in zip(replies[::2], replies[1::2], strict=True)
    ]
