"""Routes calls to servers: to the only server, or to the cluster node that has the slot of the key."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

from awx_ratelimit.backends.redis.cluster import Cluster
from awx_ratelimit.backends.redis.sentinel import SentinelPrimary
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.transport import open_endpoint
from awx_ratelimit.backends.redis.url import parse_url
from awx_ratelimit.core.validation import type_name

_PERMISSIONS = "~{prefix}:* +eval +evalsha +time +get +set +del"


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
