"""HTTP/1.1 by hand: the bytes of a test reach the server as they are, and nothing of the answer is hidden."""

import http.client
import io
import socket
import struct
from typing import NamedTuple, Self

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 10.0
#: The status of an answer that never came: the server closed the connection.
CLOSED = 0


class Answer(NamedTuple):
    """What came back. Names of headers are lower-case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header that stands once; None where it does not stand."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    def ours(self) -> list[tuple[str, str]]:
        """Without what servers add to every answer of theirs."""
        added = ("connection", "date", "server", "transfer-encoding", "via")
        return [pair for pair in self.headers if pair[0] not in added]


class Connection:
    """One TCP connection. Close it, or use it in a `with` block."""

    def __init__(
        self, port: int, *, timeout_seconds: float = TIMEOUT_SECONDS, receive_buffer_bytes: int | None = None
    ) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(timeout_seconds)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            self._socket.connect((HOST, port))
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close as a client does that has finished (FIN)."""
        self._reader.close()
        self._socket.close()

    def reset(self) -> None:
        """Close as a client does that has died (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def request(self, method: str, path: str, *keys: str) -> Answer:
        """One exchange, with an X-API-Key line for each of `keys`."""
        self.send_request(method, path, *keys)
        return self.answer(method)

    def send_request(self, method: str, path: str, *keys: str) -> None:
        """Send a request without a body."""
        self.send(head(f"{method} {path} HTTP/1.1", *(f"X-API-Key: {key}" for key in keys)))

    def send(self, sent: bytes) -> None:
        """Send these bytes, or as many of them as the server takes."""
        try:
            self._socket.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            # It has answered, or closed, without reading all: the answer tells.
            return

    def answer(self, method: str = "GET") -> Answer:
        """The whole answer; status CLOSED where there is none."""
        answer = self.begun()
        if method == "HEAD" or answer.status in (CLOSED, 204, 304):
            return answer
        return answer._replace(body=self._body(answer))

    def begun(self) -> Answer:
        """The answer up to its body, an interim one (1xx) too."""
        try:
            line = self._reader.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            return Answer(CLOSED, [], b"")
        version, status = line.split()[:2]
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), line
        message = http.client.parse_headers(self._reader)
        return Answer(int(status), [(name.lower(), value) for name, value in message.items()], b"")

    def chunk(self) -> bytes:
        """The next chunk of a streamed body; empty at its end, and where the server broke it off."""
        try:
            size = int(self._reader.readline() or b"0", 16)
            data = self._reader.read(size)
            self._reader.readline()
        except ConnectionResetError:
            return b""
        return data

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer where the server has closed."""
        return self._reader.read(size)

    def _body(self, answer: Answer) -> bytes:
        length = answer.header("content-length")
        if length is not None:
            return self._reader.read(int(length))
        if answer.header("transfer-encoding") == "chunked":
            return b"".join(iter(self.chunk, b""))
        try:
            return self._reader.read()
        except ConnectionResetError:
            return b""


def head(request_line: str | bytes, *lines: str | bytes) -> bytes:
    """The head of a request, with a Host line."""
    text = io.BytesIO()
    for line in (request_line, f"Host: {HOST}", *lines, ""):
        text.write((line.encode("latin-1") if isinstance(line, str) else line) + b"\r\n")
    return text.getvalue()
