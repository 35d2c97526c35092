"""Opens connections to one of the hosts of a database, and waits for sockets, within a deadline."""

import contextlib
import select
import time
from typing import Any, Final, NoReturn

import psycopg
from psycopg import pq

from awx_ratelimit.runtime.deadlines import Deadline

#: Errors of libpq and of sockets.
CLIENT_ERRORS: Final = (psycopg.Error, OSError)
#: At the start, opening a connection may take this long, even if a call may not. In seconds.
_MIN_CONNECT_S: Final = 0.5


class Hosts:
    """The hosts at `addresses`, which are connection strings. Opening a connection takes about `timeout_s` at most."""

    def __init__(self, addresses: list[str], timeout_s: float) -> None:
        self._addresses = addresses
        self._connect_s = max(timeout_s, _MIN_CONNECT_S)
        self._first = 0

    @property
    def conninfo(self) -> str:
        """The address of the host that was connected last."""
        return self._addresses[self._first]

    def open(self, deadline: Deadline) -> "pq.abc.PGconn":
        """A new connection to the host that was connected last, or to the next one that can be connected.

        Nothing waits longer than `deadline`. Each host has an equal part of the time: one that does not answer must
        leave some to the others. Raises CLIENT_ERRORS.
        """
        until_s = min(deadline.until_s, time.monotonic() + self._connect_s)
        deadline.left_s()
        count, first = len(self._addresses), self._first
        failure: Exception = TimeoutError()
        for number in range(count):
            now_s, at = time.monotonic(), (first + number) % count
            part_until_s = now_s + (until_s - now_s) / (count - number)
            part = Deadline(part_until_s)
            try:
                return self._open(at, part)
            except CLIENT_ERRORS as error:
                # An error says more than silence.
                failure = failure if isinstance(error, TimeoutError) else error
            finally:
                # Delays of this process are no fault of the hosts.
                late_s = part.until_s - part_until_s
                until_s, deadline.until_s = until_s + late_s, deadline.until_s + late_s
                deadline.resume()
        # The next call begins with another host: it has little time if the first one always takes its part.
        self._first = (first + 1) % count
        raise failure

    def _open(self, at: int, deadline: Deadline) -> "pq.abc.PGconn":
        connection = pq.PGconn.connect_start(self._addresses[at].encode())
        try:
            while (status := connection.connect_poll()) != pq.PollingStatus.OK:
                if status == pq.PollingStatus.FAILED:
                    _raise_failure(connection)
                await_socket(connection.socket, deadline, writing=status == pq.PollingStatus.WRITING)
            connection.nonblocking = 1
        except BaseException:
            connection.finish()
            raise
        self._first = at
        return connection


def await_socket(socket: int, deadline: Deadline, *, writing: bool = False) -> None:
    """Wait until a socket can be read or written. Raises TimeoutError."""
    await_poller(new_poller(socket, writing=writing), deadline)


def new_poller(socket: int, *, writing: bool = False) -> select.poll:
    """Waits for a socket that can be read or written."""
    # Looked up when it is used, because gevent replaces it.
    poller = select.poll()
    poller.register(socket, select.POLLOUT if writing else select.POLLIN)
    return poller


def await_poller(poller: select.poll, deadline: Deadline) -> None:
    """Wait for what `poller` waits for. Raises TimeoutError."""
    while not poller.poll(deadline.wait_s() * 1000):
        if deadline.is_over():
            raise TimeoutError


def close_quietly(connection: Any) -> None:
    """Close a connection without waiting for the server."""
    with contextlib.suppress(psycopg.Error):
        connection.finish()


def _raise_failure(connection: Any) -> NoReturn:
    raise psycopg.OperationalError(connection.error_message.decode(errors="replace").strip())
