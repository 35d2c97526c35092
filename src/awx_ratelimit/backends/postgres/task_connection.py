"""One connection to a database for the tasks of an event loop. See `connection`."""

import asyncio
import select
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import psycopg
from psycopg import pq

from awx_ratelimit.backends.postgres.connection import MAX_TRIES, read_outcome
from awx_ratelimit.backends.postgres.hosts import CLIENT_ERRORS, close_quietly
from awx_ratelimit.backends.postgres.prepared import Prepared
from awx_ratelimit.backends.postgres.schema import Call
from awx_ratelimit.backends.postgres.server import Refusal, Server
from awx_ratelimit.backends.remote.replies import Reply
from awx_ratelimit.runtime.call_timer import CallTimer
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline

#: Called once with the outcome of a call, or of several.
Done: TypeAlias = Callable[[Any], Any]


class _TaskConnection:
    """An open connection of an event loop. Its replies arrive in a callback, so no cancellation can lose one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Server, connection: Any) -> None:
        self._loop = loop
        self._server = server
        self._connection = connection
        self._socket = connection.socket
        self._prepared = Prepared(connection, server)
        self._call: Call | None = None
        self._done: Done | None = None
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        self._unread = poller.poll
        self.is_closed = False
        loop.add_reader(self._socket, self._on_readable)

    def is_ready(self) -> bool:
        """Whether an exchange may begin at once: the server has neither closed the connection nor sent anything."""
        return not (self.is_closed or self._done or self._unread(0))

    def begin(self) -> None:
        """The next calls belong together."""
        self._prepared.begin()

    def send(self, call: Call, done: Done) -> None:
        """Run `call`, and call `done` once: with the reply, a Refusal, or an error that has ended the connection."""
        self._done, self._call = done, call
        try:
            self._prepared.send(call)
            self._flush()
        except psycopg.Error as error:
            # `done` may not be called before this returns.
            self._loop.call_soon(self.drop, error)

    def _flush(self) -> None:
        if self._connection.flush():
            self._loop.add_writer(self._socket, self._on_writable)

    def _on_writable(self) -> None:
        try:
            if not self._connection.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self.drop(error)

    def _on_readable(self) -> None:
        try:
            self._connection.consume_input()
            if self._done is None or self._connection.is_busy():
                if self._connection.status != pq.ConnStatus.OK:
                    raise psycopg.OperationalError("the server has closed the connection")
                return
            outcome = read_outcome(self._connection)
            if self._call is not None and not self._prepared.is_final(outcome):
                self._prepared.send(self._call)
                self._flush()
                return
        except psycopg.Error as error:
            self.drop(error)
            return
        done, self._done = self._done, None
        done(outcome)

    def drop(self, error: Exception | None = None) -> None:
        """Close the connection without waiting for the server. A call in flight fails with `error`."""
        if not self.is_closed:
            self.is_closed = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            close_quietly(self._connection)
        done, self._done = self._done, None
        if done is not None:
            done(error or psycopg.OperationalError("the connection was closed"))

    def forget(self) -> None:
        """Close the socket after the event loop has closed."""
        self.is_closed = True
        close_quietly(self._connection)


class AsyncConnection:
    """Runs the calls of the tasks of one event loop, one batch after another. It opens on first use."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._timer = CallTimer(self._loop, server.timeout_s, self._on_timeout)
        self._connection: _TaskConnection | None = None
        self._closings = 0
        self._task: asyncio.Task[list[Reply]] | None = None

    def start(self, calls: Sequence[Call], done: Done) -> None:
        """Run `calls`, and call `done` once with the reply to each, or with BackendUnavailable or CancelledError.

        Everything, including opening the connection, shares one deadline. On an open connection it costs no task.
        """
        if self._connection is not None and self._connection.is_ready():
            self._timer.begin()
            self._connection.begin()
            self._send_next(calls, [], done)
        else:
            self._start_task(calls, [], done)

    def _send_next(self, calls: Sequence[Call], replies: list[Reply], done: Done) -> None:
        if len(replies) == len(calls):
            self._timer.end()
            done(replies)
            return
        assert self._connection is not None, "it was open for the call before"
        self._connection.send(calls[len(replies)], partial(self._on_outcome, calls, replies, done))

    def _on_outcome(self, calls: Sequence[Call], replies: list[Reply], done: Done, outcome: Any) -> None:
        if isinstance(outcome, Refusal) and not outcome.is_locked:
            self._timer.end()
            self._start_task(calls, replies, done)
        elif isinstance(outcome, Exception) and not isinstance(outcome, Refusal):
            self._timer.end()
            self._drop()
            error = self._server.explain(outcome)
            error.__cause__ = outcome
            done(error)
        else:
            replies.append(self._server.explain(outcome) if isinstance(outcome, Refusal) else outcome)
            self._send_next(calls, replies, done)

    def _on_timeout(self) -> None:
        assert self._connection is not None, "a call is in flight"
        self._connection.drop(TimeoutError())

    def _start_task(self, calls: Sequence[Call], replies: list[Reply], done: Done) -> None:
        """Run what is left to do after `replies`."""
        self._task = self._loop.create_task(self._bounded(calls, replies))
        # Unlike the end of a coroutine, this runs even if the task is cancelled before it begins.
        self._task.add_done_callback(partial(_tell, done))

    async def _bounded(self, calls: Sequence[Call], replies: list[Reply]) -> list[Reply]:
        try:
            with TaskDeadline(self._server.timeout_s) as deadline:
                for call in calls[len(replies) :]:
                    replies += (await self._reply(call, deadline),)
                return replies
        except BaseException as error:
            self._drop()
            if isinstance(error, CLIENT_ERRORS):
                raise self._server.explain(error) from error
            raise

    async def _reply(self, call: Call, deadline: TaskDeadline) -> Reply:
        has_migrated = False
        for _ in range(MAX_TRIES):
            connection = await self._open(deadline)
            reply: asyncio.Future[Any] = self._loop.create_future()
            connection.send(call, partial(_set, reply))
            outcome = await reply
            if not isinstance(outcome, Refusal):
                return outcome
            if outcome.ends_connection:
                self._drop()
            if outcome.is_unknown and not has_migrated:
                has_migrated = True
                # It may hang, and threads of the loop must end.
                await asyncio.to_thread(self._server.migrate_within, self._server.timeout_s)
            elif not outcome.may_succeed:
                break
        return self._server.explain(outcome)

    async def _open(self, deadline: TaskDeadline) -> _TaskConnection:
        if self._connection is not None and self._connection.is_ready():
            return self._connection
        self._drop()
        closings = self._closings
        # libpq looks up names of hosts without yielding, so it opens connections in a thread.
        until_s = time.monotonic() + self._server.timeout_s
        opened = await asyncio.to_thread(self._server.open, Deadline(until_s))
        deadline.resume()
        if closings != self._closings:
            close_quietly(opened)
            raise ConnectionAbortedError("the connection was closed while it was opened")
        self._connection = _TaskConnection(self._loop, self._server, opened)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._closings += 1
        self._drop()

    def forget(self) -> None:
        """Close the connection after its event loop has closed."""
        if self._connection is not None:
            self._connection.forget()


def _set(reply: "asyncio.Future[Any]", outcome: Any) -> None:
    if reply.done():
        return
    if isinstance(outcome, Exception) and not isinstance(outcome, Refusal):
        reply.set_exception(outcome)
    else:
        reply.set_result(outcome)


def _tell(done: Done, task: "asyncio.Task[list[Reply]]") -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    done(task.result() if error is None else error)
