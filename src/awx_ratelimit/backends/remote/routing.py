"""Routes calls to servers: to the only server, or to the one that has the key.

`FanOut` sends calls along a route from a thread that may wait, to one server after the other.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

from awx_ratelimit.backends.remote.replies import Call, Redirect, Reply
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import BackendUnavailable

#: A server has a `name`, a `timeout_s`, a `home`, and `answered_calls`. See the Server of each backend.
Server: TypeAlias = Any
#: A connection to a server, for threads.
Connection: TypeAlias = Any
#: The pause between two tries of a call whose slot is moving to another server.
REDIRECT_PAUSE_S = 0.002


class Route(Protocol):
    """Maps keys to servers. Any thread may use it, and so may child processes."""

    #: How long to follow a call from server to server.
    timeout_s: float
    #: Whether one call may contain the keys of several subjects.
    multi_key: bool
    #: Changes after a key has moved to another server.
    generation: int

    def server(self, key: bytes) -> Server | None:
        """The server for `key`, or None if that is not known without waiting."""

    def find_server(self, key: bytes) -> Server:
        """The server for `key`; may wait to look it up. Raises BackendUnavailable."""

    def servers(self) -> Sequence[Server]:
        """Every known server that has keys."""

    def serves(self, server: Server) -> bool:
        """Whether `server` may still receive calls."""


class SingleServer:
    """Routes all calls to one server."""

    multi_key = True
    generation = 0

    def __init__(self, server: Server) -> None:
        self.timeout_s = server.timeout_s
        self._server = server

    def server(self, key: bytes) -> Server:
        del key
        return self._server

    find_server = server

    def servers(self) -> Sequence[Server]:
        return (self._server,)

    def serves(self, server: Server) -> bool:
        return server is self._server


def checked_route(route: Any) -> Route:
    """Return `route`. Raises TypeError if it is something else, such as a URL."""
    if isinstance(route, type) or not hasattr(route, "find_server"):
        # Shows the type only: a URL may hold a password.
        raise TypeError(f"route: got {type_name(route)}; write from_url(url) of this class, or open_backend(url)")
    return cast("Route", route)


class FanOut:
    """Connections to all servers of `route`, for threads. `connect` makes one, which opens on first use."""

    def __init__(self, route: Route, connect: Callable[[Server], Connection]) -> None:
        self._route = route
        self._connect = connect
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
        while targets := {
            number: reply.server or targets[number]
            for number, reply in enumerate(replies)
            if isinstance(reply, Redirect)
        }:
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
            connection = self._connections.setdefault(server, self._connect(server))
        return connection

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for connection in list(self._connections.copy().values()):
            connection.close()
