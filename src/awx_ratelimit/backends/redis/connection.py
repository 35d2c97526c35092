"""One connection to one server, and calls of scripts on it.

The client's pool and its retries are passed by: a call that may have been decided is never sent twice. Where anything
but a whole answer came, the connection is closed, for what comes next on it could be the answer to something else.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from hiredis import pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from awx_ratelimit.backends.redis.codec import Call
from awx_ratelimit.backends.redis.commands import all_by_text, by_sha, first_by_text
from awx_ratelimit.backends.redis.connection_turns import TaskCalls
from awx_ratelimit.backends.redis.loop_ends import close_without_loop
from awx_ratelimit.backends.redis.server import Redirect
from awx_ratelimit.errors import BackendUnavailable

#: What a script answered; an error stands where the server refused that call alone, and a Redirect where it did not
#: run it.
Reply: TypeAlias = Any
CLIENT_ERRORS = (RedisError, OSError)
_NO_ANSWER = (BackendUnavailable, Redirect)
ASKING = ("ASKING",)


class AsyncConnection(TaskCalls):
    """A connection to one server. It opens when it is first used."""

    async def _run(self, calls: Sequence[Call]) -> list[Reply]:
        try:
            answers = await self._exchange([by_sha(call) for call in calls])
            return await self._explained(calls, answers) if any_refused(answers) else answers
        except BaseException as error:
            await self._drop()
            if isinstance(error, CLIENT_ERRORS):
                raise self._server.unavailable(error) from error
            raise

    async def _explained(self, calls: Sequence[Call], answers: list[Reply]) -> list[Reply]:
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

    async def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Reply]:
        connection = await self._opened()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (ASKING, each)]
        await connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        answers = [await self._answer(connection) for _ in commands]
        return without_asking(answers) if self._server.asking else answers

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
        except CLIENT_ERRORS:
            return True

    async def _answer(self, connection: Any) -> Reply:
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
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*CLIENT_ERRORS):
                await connection.disconnect()

    def forget(self) -> None:
        """The event loop is closed: its connection is closed without it."""
        close_without_loop(self._connection)


def answered(answer: Reply) -> Any:
    """`answer`, raised where it is an error."""
    if isinstance(answer, _NO_ANSWER):
        raise answer if isinstance(answer, BackendUnavailable) else answer.error
    return answer


def any_refused(answers: list[Reply]) -> bool:
    """Whether the server refused one of these calls."""
    return any(isinstance(answer, ResponseError) for answer in answers)


def without_asking(answers: list[Reply]) -> list[Reply]:
    """The answers without those to ASKING, unless that was refused."""
    return [
        allowed if isinstance(allowed, ResponseError) else answer
        for allowed, answer in zip(answers[::2], answers[1::2], strict=True)
    ]
