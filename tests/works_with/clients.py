"""The clients of the matrix: one for HTTP/1.1 and one for HTTP/2, with the same methods."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded
from tests.servers.wire import HOST, TIMEOUT_SECONDS, Answer, Connection, head
from tests.works_with.rows import Ask


def _key_lines(key: str | None) -> list[str]:
    return [] if key is None else [f"X-API-Key: {key}"]


class Stream(Protocol):
    """An answer that is open."""

    def reads(self, text: bytes) -> bool:
        """Return whether `text` comes before the answer ends."""

    def hang_up(self) -> None:
        """End the request in the middle of the answer."""


class Http1:
    """Every request on a new connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, ask: Ask, key: str | None = None) -> Answer:
        """Send a request and return the whole answer."""
        with self._sent(ask, key) as connection:
            return connection.answer(ask.method)

    @contextmanager
    def open(self, ask: Ask, key: str) -> Iterator[Stream]:
        """Send a request and leave its answer open."""
        with self._sent(ask, key) as connection:
            yield Http1Stream(connection)

    def _sent(self, ask: Ask, key: str | None) -> Connection:
        connection = Connection(self._port)
        # A stream may be refused: reading on after the refusal would otherwise wait for the server to close.
        lines = (*ask.headers, *_key_lines(key), "Connection: close")
        connection.send(head(f"{ask.method} {ask.path} HTTP/1.1", *lines) + ask.body)
        return connection


class Http1Stream:
    """An answer on a connection of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reads(self, text: bytes) -> bool:
        """Return whether `text` comes before the answer ends."""
        read = b""
        while not read.endswith(text):
            piece = self._connection.read(1)
            if not piece:
                return False
            read += piece
        return True

    def hang_up(self) -> None:
        """Close as a client that has died."""
        self._connection.reset()


class Http2:
    """Every request on a new connection, with prior knowledge of HTTP/2."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, ask: Ask, key: str | None = None) -> Answer:
        """Send a request and return the whole answer."""
        with Http2Stream(self._port, ask, key) as stream:
            stream.read_to_end()
            return stream.answer

    @contextmanager
    def open(self, ask: Ask, key: str) -> Iterator[Stream]:
        """Send a request and leave its answer open."""
        with Http2Stream(self._port, ask, key) as stream:
            yield stream


class Http2Stream:
    """A request on a connection of its own, and its answer."""

    def __init__(self, port: int, ask: Ask, key: str | None) -> None:
        self.answer = Answer(0, [], b"")
        self._socket = socket.create_connection((HOST, port), TIMEOUT_SECONDS)
        self._http = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()
        self._http.send_headers(1, _fields(ask, key), end_stream=not ask.body)
        if ask.body:
            self._http.send_data(1, ask.body, end_stream=True)
        self._send()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def reads(self, text: bytes) -> bool:
        """Return whether `text` comes before the answer ends."""
        while text not in self.answer.body:
            if not self._read():
                return False
        return True

    def read_to_end(self) -> None:
        """Read until the answer ends."""
        while self._read():
            pass

    def hang_up(self) -> None:
        """Cancel the request; the connection stays open."""
        self._http.reset_stream(1, ErrorCodes.CANCEL)
        self._send()

    def _read(self) -> bool:
        data = self._socket.recv(65536)
        events = self._http.receive_data(data) if data else []
        for event in events:
            if isinstance(event, ResponseReceived):
                fields = [(str(name), str(value)) for name, value in event.headers or []]
                self.answer = Answer(int(dict(fields)[":status"]), fields, b"")
            elif isinstance(event, DataReceived):
                self.answer = self.answer._replace(body=self.answer.body + event.data)
                self._http.acknowledge_received_data(event.flow_controlled_length, 1)
        self._send()
        return bool(data) and not any(isinstance(event, StreamEnded) for event in events)

    def _send(self) -> None:
        self._socket.sendall(self._http.data_to_send())


def _fields(ask: Ask, key: str | None) -> list[tuple[str, str]]:
    lines = [line.partition(": ") for line in (*ask.headers, *_key_lines(key))]
    named = [(name.lower(), value) for name, _, value in lines]
    return [(":method", ask.method), (":path", ask.path), (":scheme", "http"), (":authority", HOST), *named]
