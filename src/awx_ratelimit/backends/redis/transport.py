"""Makes connections to a server: those of redis-py, without its pools and its retries.

A redis-py pool counts every connection that it ever made and stops after 100. A retry could send a call twice. The
TLS trust store is read once, because reading it takes longer than a call may take. redis-py gives each step on a socket
its own timeout; here all steps of a call share one deadline.
"""

import select
import socket
import ssl
import time
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import client as async_client
from redis.asyncio import connection as async_connection
from redis.backoff import NoBackoff
from redis.client import Redis
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from awx_ratelimit.runtime.deadlines import Deadline


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, and how to connect to it within `timeout_s`. See `open_endpoint`.

    `classes` are redis-py's connection classes for threads and for event loops.
    """

    classes: tuple[Any, Any]
    settings: dict[str, Any]
    timeout_s: float

    def at(self, host: str, port: int, timeout_s: float, **others: Any) -> "Endpoint":
        """Another server with the same settings, except for `others`."""
        return replace(self, settings={**self.settings, "host": host, "port": port, **others}, timeout_s=timeout_s)

    @property
    def host(self) -> str:
        """The host name or address of the server."""
        host: str = self.settings.get("host", "localhost")
        return host

    @property
    def address(self) -> str:
        """Host and port, or the path of a socket, without user and password."""
        return self.settings.get("path") or f"{self.host}:{self.settings.get('port', 6379)}"

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self.settings.get("db", 0))

    def connection(self, deadline: Deadline | None = None) -> Any:
        """A new, unopened connection for threads. Without a `deadline`, all its use together ends by `timeout_s`."""
        kind, _ = self.classes
        return kind(**self.settings, deadline=deadline, timeout_s=self.timeout_s)

    def async_connection(self) -> Any:
        """A new, unopened connection for the running event loop."""
        _, kind = self.classes
        # A TaskDeadline bounds the whole call, and each timeout of redis-py would cost a task.
        return kind(**self.settings, socket_connect_timeout=self.timeout_s, socket_timeout=None)

    def client(self) -> Redis:
        """A redis-py client, for the search of a primary."""
        kind, _ = self.classes
        return Redis.from_pool(ConnectionPool(kind, **self.settings, timeout_s=self.timeout_s))

    def async_client(self) -> async_client.Redis:
        """A redis-py client for the running event loop."""
        _, kind = self.classes
        timeouts: dict[str, Any] = {"socket_connect_timeout": self.timeout_s, "socket_timeout": self.timeout_s}
        return async_client.Redis.from_pool(async_connection.ConnectionPool(kind, **self.settings, **timeouts))


def open_endpoint(url: str, timeout_s: float) -> Endpoint:
    """The server at `url`, which must be one that redis-py can parse.

    Raises ValueError if the certificates cannot be read.
    """
    parsed: dict[str, Any] = {**async_connection.parse_url(url)}
    classes = _CLASSES[parsed.pop("connection_class", async_connection.Connection)]
    settings = parsed | {
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if _AsyncTlsConnection in classes:
        settings["trust_store"] = _TrustStore(settings.copy())
    return Endpoint(classes, settings, timeout_s)


class _TrustStore:
    """The TLS context. It is read once, and again if gevent has replaced the `ssl` module since."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._read()

    def _read(self) -> None:
        try:
            self._context = async_connection.SSLConnection(**self._settings).ssl_context.get()
        except OSError as error:
            raise ValueError(f"redis URL: ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read: {error}") from error

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        if self._context.__class__ is not ssl.SSLContext:
            self._read()
        return self._context


#: A socket raises these when its timeout ends; with TLS also when it must not wait.
_NO_DATA_YET = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Socket:
    """A socket whose waits all end by one deadline."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        # A socket without TLS has no buffer of its own.
        self._pending = getattr(sock, "pending", lambda: 0)
        # Under gevent, polling would switch to another greenlet. The real socket below never waits.
        self._gevent_socket: Any = getattr(sock, "_sock", None)
        self._poller: Any = None
        if self._gevent_socket is None:
            self._poller = select.poll()
            self._poller.register(sock, select.POLLIN)
        self._timeout, self._recv_into, self._sendall = sock.settimeout, sock.recv_into, sock.sendall

    def recv_into(self, buffer: Any) -> int:
        deadline = self._deadline
        while True:
            self._timeout(deadline.wait_s())
            try:
                received: int = self._recv_into(buffer)
            except _NO_DATA_YET as error:
                if deadline.is_over():
                    raise TimeoutError from error
            else:
                return received

    def sendall(self, sent: bytes) -> None:
        # The kernel's buffer takes a call without waiting. If this thread returns late, it has waited for the
        # interpreter, and the server may have received the call only now.
        self._timeout(self._deadline.at_once_s())
        self._sendall(sent)
        self._deadline.resume()

    def has_unread_data(self) -> bool:
        """Whether the server has closed the connection or sent data that nothing asked for. Never waits."""
        if self._pending():
            return True
        if self._poller is not None:
            return bool(self._poller.poll(0))
        try:
            self._gevent_socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _with_deadline(kind: Any) -> Any:
    """The redis-py connection class `kind`, with one deadline for all its waits."""

    class DeadlineConnection(kind):  # type: ignore[misc]  # one of three classes
        def __init__(self, *, deadline: Deadline | None = None, timeout_s: float, **settings: Any) -> None:
            super().__init__(**settings, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
            self.deadline = deadline or Deadline(time.monotonic() + timeout_s)

        def _connect(self) -> Any:
            try:
                return self._connect_once()
            except TimeoutError:
                if not self.deadline.begin_again():
                    raise
                return self._connect_once()

        def can_read(self, timeout: float = 0) -> bool:
            del timeout
            return bool(self._parser._reader.has_data() or self._sock.has_unread_data())  # noqa: SLF001  # what the parser has buffered

        def _connect_once(self) -> Any:
            self.socket_connect_timeout = self.socket_timeout = self.deadline.left_s()
            connected = super()._connect()
            self.deadline.begin_late()
            return _Socket(connected, self.deadline)

    return DeadlineConnection


class _TlsConnection(SSLConnection):
    deadline: Deadline

    def __init__(self, *, trust_store: _TrustStore, **settings: Any) -> None:
        super().__init__(**settings)
        self._trust_store = trust_store

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        context = self._trust_store.context()
        sock.settimeout(self.deadline.left_s())
        return context.wrap_socket(sock, server_hostname=self.host)


class _AsyncTlsConnection(async_connection.SSLConnection):
    def __init__(self, *, trust_store: _TrustStore, **settings: Any) -> None:
        super().__init__(**settings)
        self.ssl_context.context = trust_store.context()


_CLASSES: dict[Any, tuple[Any, Any]] = {
    async_connection.Connection: (_with_deadline(Connection), async_connection.Connection),
    async_connection.UnixDomainSocketConnection: (
        _with_deadline(UnixDomainSocketConnection),
        async_connection.UnixDomainSocketConnection,
    ),
    async_connection.SSLConnection: (_with_deadline(_TlsConnection), _AsyncTlsConnection),
}
