"""One connection to one server, and calls of scripts on it.

Generated from `connection.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hiredis import pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from awx_ratelimit.backends.redis.codec import Call
from awx_ratelimit.backends.redis.commands import all_by_text, by_sha, first_by_text
from awx_ratelimit.backends.redis.connection import (
    ASKING,
    CLIENT_ERRORS,
    Reply,
    any_refused,
    without_asking,
)
from awx_ratelimit.backends.redis.connection_turns import ThreadCalls


class Connection(ThreadCalls):
    """A connection to one server. It opens when it is first used."""

    def _run(self, calls: Sequence[Call]) -> list[Reply]:
        try:
            answers = self._exchange([by_sha(call) for call in calls])
            return self._explained(calls, answers) if any_refused(answers) else answers
        except BaseException as error:
            self._drop()
            if isinstance(error, CLIENT_ERRORS):
                raise self._server.unavailable(error) from error
            raise

    def _explained(self, calls: Sequence[Call], answers: list[Reply]) -> list[Reply]:
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

    def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Reply]:
        connection = self._opened()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (ASKING, each)]
        connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        answers = [self._answer(connection) for _ in commands]
        return without_asking(answers) if self._server.asking else answers

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
        try:
            return bool(connection.can_read())
        except CLIENT_ERRORS:
            return True

    def _answer(self, connection: Any) -> Reply:
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
            with suppress(*CLIENT_ERRORS):
                connection.disconnect()
