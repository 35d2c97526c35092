"""A connection to a server for threads: a socket whose waits all end by one deadline."""

import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError

from awx_ratelimit.backends.redis.endpoint import Command, Endpoint
from awx_ratelimit.backends.redis.replies import CLOSED, ReplyReader
from awx_ratelimit.runtime.deadlines import Deadline

_READ_BYTES = 65_536
#: A socket raises these when its timeout ends; with TLS also when it must not wait.
_NO_DATA_YET = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class DeadlineSocket:
    """A socket whose waits all end by `deadline`."""

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
        self._timeout, self._recv, self._sendall, self.close = sock.settimeout, sock.recv, sock.sendall, sock.close

    def receive(self) -> bytes:
        """What has arrived; empty at the end of the connection. Raises TimeoutError."""
        deadline = self._deadline
        while True:
            self._timeout(deadline.wait_s())
            try:
                return self._recv(_READ_BYTES)  # type: ignore[no-any-return]
            except _NO_DATA_YET as error:
                if deadline.is_over():
                    raise TimeoutError from error

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        # The kernel's buffer takes a call without waiting. If this thread returns late, it has waited for the
        # interpreter, and the server may have received the call only now.
        self._timeout(self._deadline.at_once_s())
        self._sendall(data)
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


class ThreadTransport:
    """An open connection. Each exchange ends by the deadline that it was opened with.

    `greeting` is the reply to HELLO. After an error it must be dropped.
    """

    def __init__(self, sock: DeadlineSocket) -> None:
        self._socket = sock
        self._reader = ReplyReader()
        self.greeting: Any = None

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send `data`, and return the `count` replies to it; refusals are ResponseErrors.

        Raises RedisError if there are no replies, and TimeoutError.
        """
        reader = self._reader
        reader.begin(count)
        self._send(data)
        while not reader.feed(self._receive()):
            pass
        return reader.replies

    def ask(self, *command: Any) -> Any:
        """The reply to one command. Raises it if it is an error."""
        (reply,) = self.exchange(pack_command(command), 1)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise failed("send", error) from error

    def _receive(self) -> bytes:
        try:
            data = self._socket.receive()
        except TimeoutError:
            raise
        except OSError as error:
            raise failed("read", error) from error
        if not data:
            raise RedisConnectionError(CLOSED)
        return data

    def is_dead(self) -> bool:
        """Whether the server has closed the connection, or sent what nothing asked for. Never waits."""
        try:
            return self._reader.has_more() or self._socket.has_unread_data()
        except OSError:
            return True

    def drop(self) -> None:
        """Close the connection."""
        self._socket.close()

    close = drop
    # A backend that is collected needs no `close`.
    __del__ = drop


def open_transport(endpoint: Endpoint, deadline: Deadline) -> ThreadTransport:
    """A new connection, after its handshake. Raises RedisError, and TimeoutError after `deadline`."""
    sock = _connect(endpoint, deadline)
    try:
        transport = ThreadTransport(DeadlineSocket(sock, deadline))
        handshake = endpoint.handshake()
        transport.greeting = endpoint.greeting(transport.exchange(packed(handshake), len(handshake)))
    except BaseException:
        sock.close()
        raise
    return transport


def packed(commands: Sequence[Command]) -> bytes:
    """What to send for `commands`."""
    return b"".join(map(pack_command, commands))


def failed(step: str, error: Exception) -> RedisConnectionError:
    """The error for a `step` of a connection, such as ``connect``, that failed with `error`."""
    return RedisConnectionError(f"cannot {step}: {getattr(error, 'strerror', None) or error}")


def _connect(endpoint: Endpoint, deadline: Deadline) -> Any:
    try:
        try:
            sock = _connect_once(endpoint, deadline)
        except TimeoutError:
            if not deadline.begin_again():
                raise
            sock = _connect_once(endpoint, deadline)
    except TimeoutError:
        raise
    except OSError as error:
        raise failed("connect", error) from error
    deadline.begin_late()
    return sock


def _connect_once(endpoint: Endpoint, deadline: Deadline) -> Any:
    if endpoint.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        sock = socket.create_connection((endpoint.host, endpoint.port), deadline.left_s())
    try:
        sock.settimeout(deadline.left_s())
        if endpoint.path:
            sock.connect(endpoint.path)
            return sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if endpoint.trust is None:
            return sock
        return endpoint.trust.context().wrap_socket(sock, server_hostname=endpoint.host)
    except BaseException:
        sock.close()
        raise
