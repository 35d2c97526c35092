"""A proxy between a client and a server that delays, truncates or drops responses, or cuts the connection."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from tests.redis_servers import HOST

#: Passes a response on to a client. If it raises OSError, the connection ends.
Fault: TypeAlias = Callable[[socket.socket, bytes], None]
_MAX_BYTES = 65_536


def whole(client: socket.socket, answer: bytes) -> None:
    """Pass the response on unchanged."""
    client.sendall(answer)


def late(client: socket.socket, answer: bytes) -> None:
    """Pass it on after the client has given up."""
    time.sleep(0.2)
    client.sendall(answer)


def byte_by_byte(client: socket.socket, answer: bytes) -> None:
    """Pass it on byte by byte, so that the last byte is late."""
    for number in range(len(answer)):
        client.sendall(answer[number : number + 1])
        time.sleep(0.02)


def truncated(client: socket.socket, answer: bytes) -> None:
    """Pass on one half, then end the connection."""
    client.sendall(answer[: len(answer) // 2])
    raise ConnectionResetError


def cut(client: socket.socket, answer: bytes) -> None:
    """End the connection."""
    raise ConnectionResetError


def withheld(client: socket.socket, answer: bytes) -> None:
    """Drop the response."""


FAULTS: tuple[Fault, ...] = (late, byte_by_byte, truncated, cut, withheld)


class Proxy:
    """Listens on `port`. `fault` may change at any time; `spoiled` counts the responses with a fault."""

    def __init__(self, to_port: int) -> None:
        self.fault: Fault = whole
        self.spoiled = 0
        self._to_port = to_port
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._to_port))
                self._sockets += [client, server]
                pumps = (
                    threading.Thread(target=self._pump, args=(client, server, server.sendall)),
                    threading.Thread(
                        target=self._pump, args=(server, client, lambda got, to=client: self._hand(to, got))
                    ),
                )
                for pump in pumps:
                    pump.start()
                self._threads += pumps

    def _pump(self, of: socket.socket, to: socket.socket, hand: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):
            while got := of.recv(_MAX_BYTES):
                hand(got)
        for end in (of, to):
            _end(end)

    def _hand(self, client: socket.socket, answer: bytes) -> None:
        fault = self.fault
        self.spoiled += fault is not whole
        fault(client, answer)

    def close(self) -> None:
        """End every connection and every thread."""
        # Closing a socket does not wake a thread in accept(); shutting it down does.
        for end in self._sockets:
            _end(end)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """A proxy to a server of this machine."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
