"""How connections to one server are made: the client's own, without its pools and its retries.

A pool counts every connection that it ever made, and makes no more after 100; a retry sends again what may have been
decided. What TLS trusts is read once: reading it takes longer than a call may last.
"""

import ssl
from typing import Any

from redis.asyncio import connection as for_loops
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from awx_ratelimit.backends._redis_url import client_url


class Connections:
    """Makes connections to the server at `url`, each step of which takes `timeout_s` at most.

    Raises ValueError for a URL that is wrong, and for certificates that cannot be read.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        known: dict[str, Any] = {**for_loops.parse_url(client_url(url))}
        self._kind, self._kind_in_loop = _KINDS[known.pop("connection_class", for_loops.Connection)]
        settings = known | {
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if self._kind is _Trusting:
            settings["trusted"] = _trusted(settings)
        self._settings = settings | {"socket_timeout": timeout_s}
        # The whole call has one deadline there, and each timeout of the client costs a task.
        self._settings_in_loop = settings | {"socket_timeout": None}
        self.database = int(known.get("db", 0))
        #: Host and port, or the path of a socket: without user and password.
        self.place: str = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"

    def new(self) -> Any:
        """A new connection for threads, not yet opened."""
        return self._kind(**self._settings)

    def new_in_loop(self) -> Any:
        """A new connection for the running event loop, not yet opened."""
        return self._kind_in_loop(**self._settings_in_loop)


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
