"""Where calls go: to the one server, or to whichever server of a cluster has their key."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

from awx_ratelimit.backends.redis.address import places
from awx_ratelimit.backends.redis.cluster import Cluster
from awx_ratelimit.backends.redis.sentinel import Primary
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.transport import endpoint
from awx_ratelimit.core.validation import type_name

_NEEDED = "~{prefix}:* +eval +evalsha +time +get +set +del"


class Route(Protocol):
    """From keys to servers. Any thread may use it; it is good for child processes too."""

    #: How long a call is followed from server to server.
    timeout_s: float
    #: Whether one call may have the keys of many subjects.
    together: bool
    #: Another number after any key has gone to another server.
    generation: int

    def server(self, key: bytes) -> Server | None:
        """Where a call with this key goes, as far as it is known without waiting."""
        ...

    def found(self, key: bytes) -> Server:
        """Where a call with this key goes, asked for if need be. Raises BackendUnavailable."""
        ...

    def servers(self) -> Sequence[Server]:
        """Every server that has keys, as far as it is known."""
        ...

    def serves(self, server: Server) -> bool:
        """Whether calls may still go there."""
        ...


class OneServer:
    """All calls go to one server."""

    together = True
    generation = 0

    def __init__(self, server: Server) -> None:
        self.timeout_s = server.timeout_s
        self._server = server

    def server(self, key: bytes) -> Server:
        """See Route."""
        del key
        return self._server

    def found(self, key: bytes) -> Server:
        """See Route."""
        del key
        return self._server

    def servers(self) -> Sequence[Server]:
        """See Route."""
        return (self._server,)

    def serves(self, server: Server) -> bool:
        """See Route."""
        return server is self._server


def route(url: str, *, timeout_ms: int, prefix: str) -> Route:
    """The way to what `url` names. Raises TypeError for anything but a string, ValueError for a URL of no server."""
    if not isinstance(url, str):
        raise TypeError(f"url is {type_name(url)}; use a string such as 'redis://host:6379'")
    if timeout_ms.__class__ is not int or timeout_ms < 1:
        raise ValueError(f"timeout_ms is {timeout_ms!r}; allowed is a whole number of at least 1")
    named, timeout_s = places(url), timeout_ms / 1000
    one = endpoint(named.client_url, timeout_s)
    needed = _NEEDED.format(prefix=prefix) + (" +select" if one.database else "")
    if named.service:
        return OneServer(Primary(named, one, timeout_s=timeout_s, needed=needed))
    if named.seeds:
        return Cluster(named.seeds, one, timeout_s=timeout_s, needed=needed)
    return OneServer(Server(one, timeout_s=timeout_s, needed=needed))


def checked_route(route: Any) -> Route:
    """`route`, if it is one. Raises TypeError, for instance for a URL."""
    if isinstance(route, type) or not hasattr(route, "found"):
        # Its type alone: a URL may hold a password.
        raise TypeError(f"route is {type_name(route)}; write from_url(url) of this class, or open_backend(url)")
    return cast(Route, route)
