"""How connections to a server are made: the client's own, without its pools and its retries.

A pool counts every connection that it ever made, and makes no more after 100; a retry sends again what may have been
decided. What TLS trusts is read once: reading it takes longer than a call may last.
"""

import ssl
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import client as for_loops_client
from redis.asyncio import connection as for_loops
from redis.backoff import NoBackoff
from redis.client import Redis
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry


@dataclass(frozen=True, slots=True)
class Connections:
    """Makes connections to one server, each step of which takes `timeout_s` at most. See `connections`."""

    kinds: tuple[Any, Any]
    settings: dict[str, Any]
    timeout_s: float

    def at(self, host: str, port: int, timeout_s: float, **others: Any) -> "Connections":
        """The same to another server, where some settings are others."""
        return replace(self, settings={**self.settings, "host": host, "port": port, **others}, timeout_s=timeout_s)

    @property
    def host(self) -> str:
        """The name or the address of the server."""
        host: str = self.settings.get("host", "localhost")
        return host

    @property
    def place(self) -> str:
        """Host and port, or the path of a socket: without user and password."""
        return self.settings.get("path") or f"{self.host}:{self.settings.get('port', 6379)}"

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self.settings.get("db", 0))

    def new(self) -> Any:
        """A new connection for threads, not yet opened."""
        kind, _ = self.kinds
        return kind(**self.settings, socket_connect_timeout=self.timeout_s, socket_timeout=self.timeout_s)

    def new_in_loop(self) -> Any:
        """A new connection for the running event loop, not yet opened."""
        _, kind = self.kinds
        # The whole call has one deadline there, and each timeout of the client costs a task.
        return kind(**self.settings, socket_connect_timeout=self.timeout_s, socket_timeout=None)

    def client(self) -> Redis:
        """The client's own way to use one, for what it knows better."""
        kind, _ = self.kinds
        timeouts: dict[str, Any] = {"socket_connect_timeout": self.timeout_s, "socket_timeout": self.timeout_s}
        return Redis.from_pool(ConnectionPool(kind, **self.settings, **timeouts))

    def client_in_loop(self) -> for_loops_client.Redis:
        """The same for the running event loop."""
        _, kind = self.kinds
        timeouts: dict[str, Any] = {"socket_connect_timeout": self.timeout_s, "socket_timeout": self.timeout_s}
        return for_loops_client.Redis.from_pool(for_loops.ConnectionPool(kind, **self.settings, **timeouts))


def connections(url: str, timeout_s: float) -> Connections:
    """Connections to the server at `url`, which is as the client takes it.

    Raises ValueError for certificates that cannot be read.
    """
    known: dict[str, Any] = {**for_loops.parse_url(url)}
    kinds = _KINDS[known.pop("connection_class", for_loops.Connection)]
    settings = known | {
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if _Trusting in kinds:
        settings["trusted"] = _trusted(settings)
    return Connections(kinds, settings, timeout_s)


def _trusted(settings: dict[str, Any]) -> ssl.SSLContext:
    try:
        return for_loops.SSLConnection(**settings).ssl_context.get()
    except OSError as error:
        raise ValueError(f"redis URL: ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read: {error}") from error


class _Trusting(SSLConnection):
    def __init__(self, *, trusted: ssl.SSLContext, **settings: Any) -> None:
        super().__init__(**settings)
        self._trusted = trusted

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._trusted.wrap_socket(sock, server_hostname=self.host)


class _TrustingInLoop(for_loops.SSLConnection):
    def __init__(self, *, trusted: ssl.SSLContext, **settings: Any) -> None:
        super().__init__(**settings)
        self.ssl_context.context = trusted


_KINDS: dict[Any, tuple[Any, Any]] = {
    for_loops.Connection: (Connection, for_loops.Connection),
    for_loops.UnixDomainSocketConnection: (UnixDomainSocketConnection, for_loops.UnixDomainSocketConnection),
    for_loops.SSLConnection: (_Trusting, _TrustingInLoop),
}
