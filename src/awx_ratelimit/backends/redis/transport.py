"""How connections to a server are made: the client's own, without its pools and its retries.

A pool counts every connection that it ever made, and makes no more after 100; a retry sends again what may have been
decided. What TLS trusts is read once: reading it takes longer than a call may last. The client gives each step of a
socket a time of its own; here all steps of a call share one.
"""

import select
import socket
import ssl
import time
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import client as for_loops_client
from redis.asyncio import connection as for_loops
from redis.backoff import NoBackoff
from redis.client import Redis
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from awx_ratelimit.runtime.deadlines import Deadline


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Makes connections to one server. `timeout_s` is for opening one. See `endpoint`."""

    kinds: tuple[Any, Any]
    settings: dict[str, Any]
    timeout_s: float

    def at(self, host: str, port: int, timeout_s: float, **others: Any) -> "Endpoint":
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

    def new(self, deadline: Deadline | None = None) -> Any:
        """A new connection for threads, not yet opened. Without a `deadline` all that is done with it has one."""
        kind, _ = self.kinds
        return kind(**self.settings, deadline=deadline, timeout_s=self.timeout_s)

    def new_in_loop(self) -> Any:
        """A new connection for the running event loop, not yet opened."""
        _, kind = self.kinds
        # The whole call has one deadline there, and each timeout of the client costs a task.
        return kind(**self.settings, socket_connect_timeout=self.timeout_s, socket_timeout=None)

    def client(self) -> Redis:
        """The client's own way to use one, for what it knows better."""
        kind, _ = self.kinds
        return Redis.from_pool(ConnectionPool(kind, **self.settings, timeout_s=self.timeout_s))

    def client_in_loop(self) -> for_loops_client.Redis:
        """The same for the running event loop."""
        _, kind = self.kinds
        timeouts: dict[str, Any] = {"socket_connect_timeout": self.timeout_s, "socket_timeout": self.timeout_s}
        return for_loops_client.Redis.from_pool(for_loops.ConnectionPool(kind, **self.settings, **timeouts))


def endpoint(url: str, timeout_s: float) -> Endpoint:
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
    if _TrustingInLoop in kinds:
        settings["trusted"] = _Trusted(settings.copy())
    return Endpoint(kinds, settings, timeout_s)


class _Trusted:
    """What TLS trusts. It is read once, and once more where gevent has replaced Python's TLS since."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._read()

    def _read(self) -> None:
        try:
            self._context = for_loops.SSLConnection(**self._settings).ssl_context.get()
        except OSError as error:
            raise ValueError(f"redis URL: ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read: {error}") from error

    def context(self) -> ssl.SSLContext:
        """The context for connections that are made now."""
        if self._context.__class__ is not ssl.SSLContext:
            self._read()
        return self._context


def _nothing() -> int:
    """A socket without TLS has no bytes of its own."""
    return 0


#: What a socket raises that has waited as long as it was told to; with TLS also one that was told not to wait.
_NOTHING_YET = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Socket:
    """A socket that waits no longer than its deadline, over however many steps."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._pending = getattr(sock, "pending", _nothing)
        # A greenlet that polls gives its turn away, and may not get it back: what is beneath its socket never waits.
        self._beneath: Any = getattr(sock, "_sock", None)
        self._poller: Any = None
        if self._beneath is None:
            self._poller = select.poll()
            self._poller.register(sock, select.POLLIN)
        self._timeout, self._recv_into, self._sendall = sock.settimeout, sock.recv_into, sock.sendall

    def recv_into(self, buffer: Any) -> int:
        deadline = self._deadline
        while True:
            self._timeout(deadline.wait_s())
            try:
                received: int = self._recv_into(buffer)
            except _NOTHING_YET as error:
                if deadline.is_over():
                    raise TimeoutError from error
            else:
                return received

    def sendall(self, sent: bytes) -> None:
        # The kernel's buffer takes a call at once. A thread that comes back late has waited for its turn, and the
        # server may have the call only now.
        self._timeout(self._deadline.at_once_s())
        self._sendall(sent)
        self._deadline.resume()

    def has_news(self) -> bool:
        """Whether the server has closed it, or says what nobody asked for. It never waits."""
        if self._pending():
            return True
        if self._poller is not None:
            return bool(self._poller.poll(0))
        try:
            self._beneath.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _timed(kind: Any) -> Any:
    """The client's kind of connection, all of whose waiting has one deadline."""

    class Timed(kind):  # type: ignore[misc]  # what the client's own is does not matter here
        def __init__(self, *, deadline: Deadline | None = None, timeout_s: float, **settings: Any) -> None:
            super().__init__(**settings, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
            self.deadline = deadline or Deadline(time.monotonic() + timeout_s)

        def _connect(self) -> Any:
            try:
                return self._connected()
            except TimeoutError:
                if not self.deadline.begin_again():
                    raise
                return self._connected()

        def can_read(self, timeout: float = 0) -> bool:
            """See the client."""
            del timeout
            return bool(self._parser._reader.has_data() or self._sock.has_news())  # noqa: SLF001  # what was read and not asked for

        def _connected(self) -> Any:
            self.socket_connect_timeout = self.socket_timeout = self.deadline.left_s()
            connected = super()._connect()
            self.deadline.begin_late()
            return _Socket(connected, self.deadline)

    return Timed


class _Trusting(SSLConnection):
    deadline: Deadline

    def __init__(self, *, trusted: _Trusted, **settings: Any) -> None:
        super().__init__(**settings)
        self._trusted = trusted

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        context = self._trusted.context()
        sock.settimeout(self.deadline.left_s())
        return context.wrap_socket(sock, server_hostname=self.host)


class _TrustingInLoop(for_loops.SSLConnection):
    def __init__(self, *, trusted: _Trusted, **settings: Any) -> None:
        super().__init__(**settings)
        self.ssl_context.context = trusted.context()


_KINDS: dict[Any, tuple[Any, Any]] = {
    for_loops.Connection: (_timed(Connection), for_loops.Connection),
    for_loops.UnixDomainSocketConnection: (_timed(UnixDomainSocketConnection), for_loops.UnixDomainSocketConnection),
    for_loops.SSLConnection: (_timed(_Trusting), _TrustingInLoop),
}
