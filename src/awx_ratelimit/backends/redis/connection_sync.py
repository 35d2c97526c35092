"""One connection to one server, which runs calls of scripts.

Generated from `connection.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Sequence

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from awx_ratelimit.backends.redis.connection import ASKING, CLIENT_ERRORS, ThreadCalls, any_refused, without_asking
from awx_ratelimit.backends.redis.endpoint import Command
from awx_ratelimit.backends.redis.scripts import Call, eval_all, eval_first, evalsha
from awx_ratelimit.backends.redis.thread_transport import ThreadTransport, packed
from awx_ratelimit.backends.remote.replies import Reply


class Connection(ThreadCalls):
    """A connection to one server. It opens on first use."""

    def _run(self, calls: Sequence[Call], replies: list[Reply] | None = None) -> list[Reply]:
        """Run `calls`, or only what is left to do after `replies`."""
        try:
            if replies is None:
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

    def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        connection = self._open()
        self._deadline.resume()
        if self._server.asking:
            commands = [command for each in commands for command in (ASKING, each)]
        replies = connection.exchange(packed(commands), len(commands))
        return without_asking(replies) if self._server.asking else replies

    def _open(self) -> ThreadTransport:
        if (connection := self._connection) is not None and not connection.is_dead():
            return connection
        self._drop()
        closings = self._closings
        connection = self._server.open(self._deadline)
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

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._closings += 1
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
