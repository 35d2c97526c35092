"""Routes calls to servers: to the only server, or to the cluster node that has the slot of the key.

`FanOut` sends calls along a route from a thread that may wait, to one server after the other.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol, cast

from awx_ratelimit.backends.redis.cluster import Cluster
from awx_ratelimit.backends.redis.connection import Reply
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.redis.endpoint import open_endpoint
from awx_ratelimit.backends.redis.scripts import Call
from awx_ratelimit.backends.redis.sentinel import SentinelPrimary
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.backends.redis.url import parse_url
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import BackendUnavailable

_PERMISSIONS = "~{prefix}:* +eval +evalsha +time +mget +set +del +exists +hget +hset +hdel +pexpire"


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


def route_to(url: str, *, timeout_ms: int, prefix: str) -> Route:
    """The route to what `url` names. Raises TypeError unless it is a string, and ValueError for a wrong URL."""
    if not isinstance(url, str):
        raise TypeError(f"url: expected a string such as 'redis://host:6379', got {type_name(url)}")
    if timeout_ms.__class__ is not int or timeout_ms < 1:
        raise ValueError(f"timeout_ms: expected an integer >= 1, got {timeout_ms!r}")
    address, timeout_s = parse_url(url), timeout_ms / 1000
    endpoint = open_endpoint(address.client_url, timeout_s)
    permissions = _PERMISSIONS.format(prefix=prefix) + (" +select" if endpoint.database else "")
    if address.service:
        return SingleServer(SentinelPrimary(address, endpoint, timeout_s=timeout_s, permissions=permissions))
    if address.seeds:
        return Cluster(address.seeds, endpoint, timeout_s=timeout_s, permissions=permissions)
    return SingleServer(Server(endpoint, timeout_s=timeout_s, permissions=permissions))


def checked_route(route: Any) -> Route:
    """Return `route`. Raises TypeError if it is something else, such as a URL."""
    if isinstance(route, type) or not hasattr(route, "find_server"):
        # Shows the type only: a URL may hold a password.
        raise TypeError(f"route: got {type_name(route)}; write from_url(url) of this class, or open_backend(url)")
    return cast(Route, route)


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
            connection = self._connections.setdefault(server, Connection(server))
        return connection

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for connection in list(self._connections.copy().values()):
            connection.close()
