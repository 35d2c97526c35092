"""One connection to one server, which runs calls of scripts.

Generated from `connection.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hiredis import pack_command
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from awx_ratelimit.backends.redis.connection import (
    ASKING,
    CLIENT_ERRORS,
    Reply,
    ThreadCalls,
    any_refused,
    without_asking,
)
from awx_ratelimit.backends.redis.scripts import Call, eval_all, eval_first, evalsha


class Connection(ThreadCalls):
    """A connection to one server. It opens on first use."""

    def _run(self, calls: Sequence[Call]) -> list[Reply]:
        try:
            replies = self._exchange([evalsha(call) for call in calls])
            return self._after_refusals(calls, replies) if any_refused(replies) else replies
        except BaseException as error:
            self._drop()
            if isinstance(error, CLIENT_ERRORS):
                raise self._server.on_failure(error) from error
            raise

    def _after_refusals(self, calls: Sequence[Call], replies: list[Reply]) -> list[Reply]:
        """Load the scripts that the server does not have and run their calls. Turn other refusals into errors."""
        # The server ran none of the calls that it answered with NOSCRIPT: it restarted, or its scripts were flushed.
        for eval_calls in (eval_first, eval_all):
            unknown = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if not unknown:
                break
            new_replies = self._exchange(eval_calls([calls[number] for number in unknown]))
            for number, reply in zip(unknown, new_replies, strict=True):
                replies[number] = reply
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # This server is not the primary any more.
            self._drop()
        return [self._server.on_refusal(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    def _exchange(self, commands: "list[tuple[Any, ...]]") -> list[Reply]:
        connection = self._open()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (ASKING, each)]
        connection.send_packed_command([b"".join(map(pack_command, commands))], check_health=False)
        replies = [self._reply(connection) for _ in commands]
        return without_asking(replies) if self._server.asking else replies

    def _open(self) -> Any:
        if (connection := self._connection) is not None and not self._is_dead(connection):
            return connection
        self._drop()
        connection = self._connection = self._server.connection(self._deadline)
        connection.connect()
        if self._connection is not connection:
            # `close` ran before there was a socket to close.
            connection.disconnect()
            raise ConnectionAbortedError("the connection was closed while it was opened")
        self._deadline.resume()
        connection.send_command("HELLO", check_health=False)
        self._server.check_greeting(self._reply(connection))
        return connection

    def _is_dead(self, connection: Any) -> bool:
        try:
            return bool(connection.can_read())
        except CLIENT_ERRORS:
            return True

    def _reply(self, connection: Any) -> Reply:
        try:
            return connection.read_response()
        except ResponseError as error:
            return error

    def _drop(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*CLIENT_ERRORS):
                connection.disconnect()
