"""One connection to one server, and calls of scripts on it.

The client's pool and its retries are passed by: a call that may have been decided is never sent twice. Where anything
but a whole answer came, the connection is closed, for what comes next on it could be the answer to something else.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from hiredis import pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from awx_ratelimit.backends.redis.batch import delayed
from awx_ratelimit.backends.redis.codec import Call
from awx_ratelimit.backends.redis.commands import all_by_text, by_sha, first_by_text
from awx_ratelimit.backends.redis.loop_ends import close_without_loop
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline

#: What a script answered; an error stands where the server refused that call alone, and a Redirect where it did not
#: run it.
Answer: TypeAlias = Any
_CLIENT_ERRORS = (RedisError, OSError)
_NO_ANSWER = (BackendUnavailable, Redirect)
_ASKING = ("ASKING",)


class Link:
    """For threads, one call at a time. Opened when it is first used."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._deadline = Deadline()
        self._connection: Any = None

    def run(self, calls: Sequence[Call], until_s: float | None = None) -> list[Answer]:
        """What each call answered, in one round trip. Raises BackendUnavailable where no answers came.

        All of it, with the opening of the connection, ends by `until_s`, or within the time of a call from now.
        """
        until_s = until_s or time.monotonic() + self._server.timeout_s
        take = partial(self._lock.acquire, timeout=max(0.0, until_s - time.monotonic()))
        # A loop of one turn: between `acquire` and `try` a signal handler could raise and leave the lock taken.
        for _ in iter(take, False):
            try:
                if not self._deadline.begin(until_s):
                    break
                return self._run(calls)
            finally:
                self._lock.release()
        raise delayed(f"redis at {self._server.name} is still busy with the call before")

    def _run(self, calls: Sequence[Call]) -> list[Answer]:
        try:
            answers = self._exchange([by_sha(call) for call in calls])
            return self._explained(calls, answers) if _any_refused(answers) else answers
        except BaseException as error:
            self._drop()
            if isinstance(error, _CLIENT_ERRORS):
                raise self._server.unavailable(error) from error
            raise

    def _explained(self, calls: Sequence[Call], answers: list[Answer]) -> list[Answer]:
        """The same, after the server was told the scripts that it does not know."""
        for again in (first_by_text, all_by_text):
            unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if not unknown:
                break
            # Nothing of them was run: the server was restarted, or told to forget.
            asked_again = self._exchange(again([calls[number] for number in unknown]))
            for number, answer in zip(unknown, asked_again, strict=True):
                answers[number] = answer
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            # This server is not the primary any more.
            self._drop()
        return [self._server.refused(answer) if isinstance(answer, ResponseError) else answer for answer in answers]

    def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Answer]:
        connection = self._opened()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (_ASKING, each)]
        connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        answers = [self._answer(connection) for _ in commands]
        return _asked(answers) if self._server.asking else answers

    def _opened(self) -> Any:
        if (connection := self._connection) is not None and not self._is_dead(connection):
            return connection
        self._drop()
        connection = self._connection = self._server.connection(self._deadline)
        connection.connect()
        self._deadline.resume()
        connection.send_command("HELLO", check_health=False)
        self._server.welcome(connection, self._answer(connection))
        return connection

    def _is_dead(self, connection: Any) -> bool:
        """Whether the server has closed it, or it has something to say that nobody asked for."""
        try:
            return bool(connection.can_read())
        except _CLIENT_ERRORS:
            return True

    def _answer(self, connection: Any) -> Answer:
        try:
            return connection.read_response()
        except ResponseError as error:
            return error

    def _drop(self) -> None:
        """What a connection has to say does not count any more: it is closed without waiting for its other end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_CLIENT_ERRORS):
                connection.disconnect()


class AsyncLink:
    """For one event loop, one call at a time. Opened when it is first used."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._deadline: TaskDeadline
        self._connection: Any = None

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        """See Link. All of it, with the opening of the connection, has one deadline."""
        try:
            with TaskDeadline(self._server.timeout_s) as self._deadline:
                return await self._run(calls)
        except TimeoutError as error:
            raise self._server.unavailable(error) from error

    async def _run(self, calls: Sequence[Call]) -> list[Answer]:
        try:
            answers = await self._exchange([by_sha(call) for call in calls])
            return await self._explained(calls, answers) if _any_refused(answers) else answers
        except BaseException as error:
            await self._drop()
            if isinstance(error, _CLIENT_ERRORS):
                raise self._server.unavailable(error) from error
            raise

    async def _explained(self, calls: Sequence[Call], answers: list[Answer]) -> list[Answer]:
        """The same, after the server was told the scripts that it does not know."""
        for again in (first_by_text, all_by_text):
            unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if not unknown:
                break
            # Nothing of them was run: the server was restarted, or told to forget.
            asked_again = await self._exchange(again([calls[number] for number in unknown]))
            for number, answer in zip(unknown, asked_again, strict=True):
                answers[number] = answer
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            # This server is not the primary any more.
            await self._drop()
        return [self._server.refused(answer) if isinstance(answer, ResponseError) else answer for answer in answers]

    async def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Answer]:
        connection = await self._opened()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (_ASKING, each)]
        await connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        answers = [await self._answer(connection) for _ in commands]
        return _asked(answers) if self._server.asking else answers

    async def _opened(self) -> Any:
        if (connection := self._connection) is not None and not await self._is_dead(connection):
            return connection
        await self._drop()
        connection = self._connection = await self._server.async_connection()
        await connection.connect()
        self._deadline.resume()
        await connection.send_command("HELLO", check_health=False)
        self._server.welcome(connection, await self._answer(connection))
        return connection

    async def _is_dead(self, connection: Any) -> bool:
        try:
            return bool(await connection.can_read())
        except _CLIENT_ERRORS:
            return True

    async def _answer(self, connection: Any) -> Answer:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error

    async def _drop(self) -> None:
        """See Link."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """See Link. Waited for, or TLS leaves a transport behind."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_CLIENT_ERRORS):
                await connection.disconnect()

    def forget(self) -> None:
        """The event loop is closed: its connection is closed without it."""
        close_without_loop(self._connection)


def answered(answer: Answer) -> Any:
    """`answer`, raised where it is an error."""
    if isinstance(answer, _NO_ANSWER):
        raise answer if isinstance(answer, BackendUnavailable) else answer.error
    return answer


def _any_refused(answers: list[Answer]) -> bool:
    return any(isinstance(answer, ResponseError) for answer in answers)


def _asked(answers: list[Answer]) -> list[Answer]:
    """The answers without those to ASKING, unless that was refused."""
    return [
        allowed if isinstance(allowed, ResponseError) else answer
        for allowed, answer in zip(answers[::2], answers[1::2], strict=True)
    ]
