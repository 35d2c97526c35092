"""One connection to one server, and calls of scripts on it.

The client's pool and its retries are passed by: a call that may have been decided is never sent twice. Where anything
but a whole answer came, the connection is closed, for what comes next on it could be the answer to something else.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, TypeAlias

from hiredis import pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from awx_ratelimit.backends._redis_codec import Call
from awx_ratelimit.backends._redis_server import Server
from awx_ratelimit.errors import BackendUnavailable

#: What a script answered; an error stands where the server refused that call alone.
Answer: TypeAlias = Any
_CLIENT_ERRORS = (RedisError, OSError)


class Link:
    """For threads, one call at a time. Opened when it is first used."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = Lock()
        self._take = partial(self._lock.acquire, timeout=server.timeout_s)
        self._connection: Any = None

    def run(self, calls: Sequence[Call]) -> list[Answer]:
        """What each call answered, in one round trip. Raises BackendUnavailable where no answers came."""
        # A loop of one turn: after a call a signal handler may raise before a `try` is reached, and the lock would stay
        # taken for ever; between an iterator and the body of its loop there is no such place.
        for _ in iter(self._take, False):
            try:
                return self._run(calls)
            finally:
                self._lock.release()
        raise BackendUnavailable(f"redis at {self._server.name} is still busy with the call before")

    def _run(self, calls: Sequence[Call]) -> list[Answer]:
        try:
            answers = self._exchange([_by_sha(call) for call in calls])
            unknown = _unknown(answers)
            if unknown:
                # Nothing of them was run: the server was restarted, or told to forget.
                again = self._exchange([_by_text(calls[number]) for number in unknown])
                for number, answer in zip(unknown, again, strict=True):
                    answers[number] = answer
        except BaseException as error:
            self._drop()
            if isinstance(error, _CLIENT_ERRORS):
                raise self._server.unavailable(error) from error
            raise
        if _is_stale(answers):
            self._drop()
        return _explained(self._server, answers)

    def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Answer]:
        connection = self._opened()
        connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        return [self._answer(connection) for _ in commands]

    def _opened(self) -> Any:
        if self._connection is not None and not self._is_dead():
            return self._connection
        self._drop()
        connection = self._connection = self._server.connection()
        connection.connect()
        connection.send_command("HELLO", check_health=False)
        self._server.check(self._answer(connection))
        return connection

    def _is_dead(self) -> bool:
        """Whether the server has closed it, or it has something to say that nobody asked for."""
        try:
            return bool(self._connection.can_read())
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
        self._connection: Any = None

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        """See Link. All of it, with the opening of the connection, has one deadline."""
        try:
            async with asyncio.timeout(self._server.timeout_s):
                return await self._run(calls)
        except TimeoutError as error:
            raise self._server.unavailable(error) from error

    async def _run(self, calls: Sequence[Call]) -> list[Answer]:
        try:
            answers = await self._exchange([_by_sha(call) for call in calls])
            unknown = _unknown(answers)
            if unknown:
                # Nothing of them was run: the server was restarted, or told to forget.
                again = await self._exchange([_by_text(calls[number]) for number in unknown])
                for number, answer in zip(unknown, again, strict=True):
                    answers[number] = answer
        except BaseException as error:
            await self._drop()
            if isinstance(error, _CLIENT_ERRORS):
                raise self._server.unavailable(error) from error
            raise
        if _is_stale(answers):
            await self._drop()
        return _explained(self._server, answers)

    async def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Answer]:
        connection = await self._opened()
        await connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        return [await self._answer(connection) for _ in commands]

    async def _opened(self) -> Any:
        if self._connection is not None and not await self._is_dead():
            return self._connection
        await self._drop()
        connection = self._connection = self._server.async_connection()
        await connection.connect()
        await connection.send_command("HELLO", check_health=False)
        self._server.check(await self._answer(connection))
        return connection

    async def _is_dead(self) -> bool:
        try:
            return bool(await self._connection.can_read())
        except _CLIENT_ERRORS:
            return True

    async def _answer(self, connection: Any) -> Answer:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error

    async def _drop(self) -> None:
        """What a connection has to say does not count any more: it is closed without waiting for its other end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """See Link. Waited for, or TLS leaves a transport behind."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_CLIENT_ERRORS):
                await connection.disconnect()


def answered(answer: Answer) -> Any:
    """`answer`, raised where it is an error."""
    if isinstance(answer, BackendUnavailable):
        raise answer
    return answer


def _by_sha(call: Call) -> tuple[Any, ...]:
    return "EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args


def _by_text(call: Call) -> tuple[Any, ...]:
    return "EVAL", call.script.text, len(call.keys), *call.keys, *call.args


def _unknown(answers: list[Answer]) -> list[int]:
    return [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]


def _is_stale(answers: list[Answer]) -> bool:
    """Whether this server is not the primary any more."""
    return any(isinstance(answer, ReadOnlyError) for answer in answers)


def _explained(server: Server, answers: list[Answer]) -> list[Answer]:
    return [server.unavailable(answer) if isinstance(answer, ResponseError) else answer for answer in answers]
