"""Sends calls to several servers from a thread that may wait: one connection to each server, one after the other."""

import time
from collections.abc import Sequence

from awx_ratelimit.backends.redis.connection import Reply
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.routing import Route
from awx_ratelimit.backends.redis.scripts import Call
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.errors import BackendUnavailable

#: The pause between two tries of a call whose slot is moving to another server.
REDIRECT_PAUSE_S = 0.002


class FanOut:
    """Connections to all servers of `route`, for threads. Each opens on first use."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._connections: dict[Server, Connection] = {}

    def run(self, calls: Sequence[Call], until_s: float | None = None) -> list[Reply]:
        """The reply to each call, in one round trip per server. A BackendUnavailable stands for a missing reply.

        With `until_s`, all of it ends by then. Without it, each server has its own timeout.
        """
        call_until_s, until_s = until_s, until_s or time.monotonic() + self._route.timeout_s
        replies: list[Reply] = [None] * len(calls)
        targets: dict[int, Server] = {}
        for number, call in enumerate(calls):
            try:
                targets[number] = self._route.server(call.keys[0]) or self._route.find_server(call.keys[0])
            except BackendUnavailable as error:
                replies[number] = error
        self._run(calls, targets, replies, call_until_s)
        pause_s = 0.0
        while targets := {number: reply.server for number, reply in enumerate(replies) if isinstance(reply, Redirect)}:
            if time.monotonic() > until_s:
                return [reply.error if isinstance(reply, Redirect) else reply for reply in replies]
            time.sleep(pause_s)
            self._run(calls, targets, replies, call_until_s)
            pause_s = REDIRECT_PAUSE_S
        return replies

    def _run(
        self, calls: Sequence[Call], targets: dict[int, Server], replies: list[Reply], until_s: float | None
    ) -> None:
        """Send the calls with these numbers to their servers, and store their replies in `replies`."""
        by_server: dict[Server, list[int]] = {}
        for number, server in targets.items():
            by_server.setdefault(server, []).append(number)
        for server, numbers in by_server.items():
            try:
                some = self._connection(server).run([calls[number] for number in numbers], until_s)
            except BackendUnavailable as error:
                some = [error] * len(numbers)
            for number, reply in zip(numbers, some, strict=True):
                replies[number] = reply

    def _connection(self, server: Server) -> Connection:
        connection = self._connections.get(server)
        if connection is None:
            for gone in [known for known in self._connections.copy() if not self._route.serves(known)]:
                closed = self._connections.pop(gone, None)
                if closed is not None:
                    closed.close()
            connection = self._connections.setdefault(server, Connection(server))
        return connection

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for connection in list(self._connections.copy().values()):
            connection.close()
