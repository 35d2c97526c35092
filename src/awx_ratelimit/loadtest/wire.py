"""HTTP/1.1 over one connection, and when each part of it happened.

It sends nothing twice and takes no answer for another's: what was sent once is charged once. Thinner than Locust's own
clients, so that the tester is no slower than they are.
"""

import socket
import ssl
import struct
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from os import urandom
from typing import Final
from urllib.parse import SplitResult, urlsplit

from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from awx_ratelimit.loadtest.contract import KEPT
from awx_ratelimit.loadtest.observation import MOST_BODY_BYTES

#: What may go wrong on the way.
BROKEN: Final = (OSError, HTTPParseError)
#: A server closes what is idle; within this time none does.
_IDLE_S = 1.0
_LOOK_S = 0.1
_BLOCK_BYTES = 16_384
_ACCEPTED = b"HTTP/1.1 101"
_CLOSE_FRAME, _TRY_AGAIN = 0x88, 1013
_ANCHOR_US = time.time_ns() // 1_000 - time.monotonic_ns() // 1_000


def now_us() -> int:
    """Microseconds since the epoch, by a clock that does not jump."""
    return _ANCHOR_US + time.monotonic_ns() // 1_000


class Target:
    """Where requests go, and their bytes. Raises ValueError for an URL that is none."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL is {url!r}; allowed are http:// and https:// with a host")
        self.timeout_s = timeout_ms / 1_000
        self._parts: SplitResult = parts
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def request(self, method: str, path: str, key_line: str | None, *more: str) -> bytes:
        """The bytes of a request."""
        lines = [
            f"{method} {self._parts.path.rstrip('/')}{path} HTTP/1.1",
            f"Host: {self._parts.netloc}",
            "User-Agent: awx-ratelimit-loadtest",
            "Accept: application/json, */*",
            *([key_line] if key_line else []),
            *more,
            *(["Content-Length: 0"] if method not in ("GET", "HEAD") else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def upgrade(self, path: str, key_line: str | None) -> bytes:
        """The bytes of a WebSocket's handshake (RFC 6455)."""
        key = b64encode(urandom(16)).decode()
        more = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
        return self.request("GET", path, key_line, *more)

    def connect(self) -> socket.socket:
        """A new connection."""
        plain = socket.create_connection((self._parts.hostname or "", self._port), self.timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(plain, server_hostname=self._parts.hostname) if self._tls else plain


@dataclass(slots=True)
class Exchange:
    """What happened of one request; times as an Observation has them."""

    sent_us: int
    answered_us: int = 0
    alive_us: int = 0
    ended_us: int = 0
    status: int = 0
    hung_up: bool = False
    closed_with: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""


class Connection:
    """One connection at a time, opened when it is needed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket: socket.socket | None = None
        self._used_us = 0

    def ask(self, request: bytes, method: str, refused_status: int) -> Exchange:
        """One request and its whole answer. Raises one of BROKEN."""
        open_socket, done = self._begin()
        response = self._head(open_socket, request, method, done)
        body = response.read()
        done.ended_us = self._used_us = now_us()
        done.alive_us = done.answered_us
        if done.status == refused_status:
            done.body = body[:MOST_BODY_BYTES].decode(errors="replace")
        if response.should_close():
            self.close()
        return done

    def hold(self, request: bytes, refused_status: int, until: Callable[[], bool]) -> Exchange:
        """One request, read piece by piece to its end, or until `until` says to hang up. Raises one of BROKEN."""
        open_socket, done = self._begin()
        response = self._head(open_socket, request, "GET", done)
        delay_us = done.answered_us - done.sent_us
        # Short, so that it hangs up when it should, and knows often that the body has not ended.
        open_socket.settimeout(_LOOK_S)
        while not response.message_complete and not until():
            before_us = now_us()
            with suppress(TimeoutError):
                response.feed(open_socket.recv(_BLOCK_BYTES))
            if not response.message_complete:
                # It had not ended when it was waited for; what was on its way then is no older than an answer was.
                done.alive_us = max(done.answered_us, before_us - delay_us)
        done.hung_up = not response.message_complete
        if done.status == refused_status:
            done.body = response.read()[:MOST_BODY_BYTES].decode(errors="replace")
        self.close()
        done.ended_us = now_us()
        return done

    def hold_websocket(self, request: bytes, refused_status: int, until: Callable[[], bool]) -> Exchange:
        """A WebSocket, held until `until` says to hang up. Raises one of BROKEN."""
        open_socket, done = self._begin()
        open_socket.sendall(request)
        # The parser takes no protocol after an upgrade, so its own part is the refusal.
        begun = open_socket.recv(_BLOCK_BYTES)
        if begun.startswith(_ACCEPTED):
            done.answered_us = done.alive_us = now_us()
            done.status, done.hung_up = 101, True
        else:
            response = self._head(open_socket, b"", "GET", done, begun)
            if done.status == refused_status:
                done.body = response.read()[:MOST_BODY_BYTES].decode(errors="replace")
        while done.status == 101 and not until():
            before_us = now_us()
            done.closed_with = _closed_with(open_socket)
            if done.closed_with:
                done.hung_up = False
                break
            done.alive_us = max(done.answered_us, before_us - (done.answered_us - done.sent_us))
        self.close()
        done.ended_us = now_us()
        return done

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self) -> tuple[socket.socket, Exchange]:
        if now_us() - self._used_us > _IDLE_S * 1_000_000:
            self.close()
        if self._socket is None:
            self._socket = self._target.connect()
        self._used_us = now_us()
        return self._socket, Exchange(self._used_us)

    def _head(
        self, open_socket: socket.socket, request: bytes, method: str, done: Exchange, begun: bytes = b""
    ) -> HTTPSocketResponse:
        if request:
            open_socket.sendall(request)
        response = HTTPSocketResponse(open_socket, method=method, pre_buffered=begun)
        done.answered_us = done.alive_us = now_us()
        done.status = response.get_code()
        done.headers = [(name.lower(), value) for name, value in response.items() if name.lower() in KEPT]
        return response


def refused_websocket(done: Exchange) -> bool:
    """Whether it was refused: before it was accepted (403), or by a close that says to try again later."""
    return done.status == 403 or done.closed_with == _TRY_AGAIN


def _closed_with(open_socket: socket.socket) -> int:
    """The code that a server closes with, 1006 where it just ends; 0 while it is open."""
    open_socket.settimeout(_LOOK_S)
    try:
        data = open_socket.recv(_BLOCK_BYTES)
    except TimeoutError:
        return 0
    if not data:
        return 1006
    return int(struct.unpack("!H", data[2:4])[0]) if data[0] == _CLOSE_FRAME and len(data) >= 4 else 0
