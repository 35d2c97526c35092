"""An HTTP/1.1 client for one connection that records when each part of a response arrived.

It never resends a request, because a gateway charges every copy. It does less per request than Locust's own clients,
so that the load tester is no slower than they are.
"""

import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import urandom
from urllib.parse import SplitResult, urlsplit

from gevent import Timeout

from awx_ratelimit.loadtest.audit.contract import KEPT_HEADERS
from awx_ratelimit.loadtest.audit.observation import SECOND_US
from awx_ratelimit.loadtest.load.http_parser import MAX_HEAD_BYTES, CloseFrameParser, ResponseParser

#: Servers close idle connections. None closes one within this time.
_MAX_IDLE_S = 1.0
_POLL_S = 0.1
_BLOCK_BYTES = 16_384
_SWITCHING = 101
_ACCEPTED = b"HTTP/1.1 101"
_HEAD_END = b"\r\n\r\n"
#: WebSocket close codes (RFC 6455, 7.4.1): "abnormal closure" and "try again later".
_ABNORMAL, _TRY_AGAIN = 1006, 1013
_ANCHOR_US = time.time_ns() // 1_000 - time.monotonic_ns() // 1_000


def now_us() -> int:
    """Microseconds since the epoch, by a clock that never steps."""
    return _ANCHOR_US + time.monotonic_ns() // 1_000


class Target:
    """The gateway's address, and the bytes of requests to it."""

    def __init__(self, url: str, timeout_ms: int) -> None:
        parts = urlsplit(url)
        self.timeout_s = timeout_ms / 1_000
        self._parts: SplitResult = parts
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def request(self, method: str, path: str, key_line: str | None, *more: str) -> bytes:
        """The bytes of a plain request; `more` are further header lines."""
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
        """The bytes of a WebSocket handshake (RFC 6455)."""
        key = b64encode(urandom(16)).decode()
        more = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
        return self.request("GET", path, key_line, *more)

    def connect(self) -> socket.socket:
        """Open a connection. The request timeout covers name resolution and the TLS handshake."""
        with Timeout(self.timeout_s, TimeoutError):
            plain = socket.create_connection((self._parts.hostname or "", self._port), self.timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return plain
            try:
                return self._tls.wrap_socket(plain, server_hostname=self._parts.hostname)
            except BaseException:
                plain.close()
                raise


@dataclass(slots=True)
class Exchange:
    """One request and its response; the times are those of an Observation."""

    sent_us: int
    answered_us: int = 0
    alive_us: int = 0
    ended_us: int = 0
    status: int = 0
    hung_up: bool = False
    close_code: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""

    @property
    def refused_websocket(self) -> bool:
        """Whether a WebSocket was refused: by a 403, or by an immediate close with "try again later"."""
        return self.status == 403 or self.close_code == _TRY_AGAIN

    def cut(self) -> "Exchange":
        """What is known if the client hangs up now. `status` is 0 if it does not know yet what was decided."""
        now = now_us()
        # A WebSocket may be refused by a close frame that follows its handshake at once.
        is_known = self.status != _SWITCHING or self.alive_us > self.answered_us
        answered_us, alive_us = self.answered_us or now, self.alive_us or now
        return replace(
            self, status=self.status if is_known else 0, answered_us=answered_us, alive_us=alive_us, ended_us=now,
            hung_up=True,
        )  # fmt: skip


class Connection:
    """One connection at a time, opened on demand.

    Methods that send write into their `exchange` as things happen, and raise OSError or ParseError.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket: socket.socket | None = None
        self._used_us = 0

    def send(self, request: bytes, method: str, refused_status: int, exchange: Exchange) -> None:
        """Send a request and read the whole response."""
        open_socket, until_us = self._begin(request, exchange)
        response = self._read_head(open_socket, method, exchange, until_us)
        while not response.complete:
            response.take(_receive(open_socket, until_us))
        exchange.ended_us = self._used_us = now_us()
        exchange.alive_us = exchange.answered_us
        self._keep_body(response, exchange, refused_status)
        if response.should_close():
            self.close()

    def hold(self, request: bytes, refused_status: int, until: Callable[[], bool], exchange: Exchange) -> None:
        """Send a request and read its response slowly, to its end or until `until` returns True."""
        open_socket, until_us = self._begin(request, exchange)
        response = self._read_head(open_socket, "GET", exchange, until_us)

        def read() -> bool:
            response.take(open_socket.recv(_BLOCK_BYTES))
            return response.complete

        exchange.hung_up = not (response.complete or self._poll(open_socket, exchange, read, until))
        self._keep_body(response, exchange, refused_status)
        self.close()
        exchange.ended_us = now_us()

    def hold_websocket(
        self, request: bytes, refused_status: int, until: Callable[[], bool], exchange: Exchange
    ) -> None:
        """Open a WebSocket and hold it until the server closes it or `until` returns True."""
        open_socket, until_us = self._begin(request, exchange)
        begun = b""
        while _HEAD_END not in begun and len(begun) <= MAX_HEAD_BYTES:
            begun += (more := _receive(open_socket, until_us))
            if not more:
                break
        # The HTTP parser accepts no upgraded protocol, so it only parses refusals.
        if begun.startswith(_ACCEPTED):
            exchange.answered_us = exchange.alive_us = now_us()
            exchange.status = _SWITCHING
            self._hold_frames(open_socket, exchange, begun.partition(_HEAD_END)[2], until)
        else:
            response = self._read_head(open_socket, "GET", exchange, until_us, begun)
            while not response.complete:
                response.take(_receive(open_socket, until_us))
            self._keep_body(response, exchange, refused_status)
        self.close()
        exchange.ended_us = now_us()

    def _hold_frames(
        self, open_socket: socket.socket, exchange: Exchange, begun: bytes, until: Callable[[], bool]
    ) -> None:
        frames = CloseFrameParser()
        exchange.close_code = frames.close_code(begun)

        def read() -> bool:
            data = open_socket.recv(_BLOCK_BYTES)
            exchange.close_code = frames.close_code(data) if data else _ABNORMAL
            return bool(exchange.close_code)

        exchange.hung_up = not (exchange.close_code or self._poll(open_socket, exchange, read, until))

    @staticmethod
    def _poll(
        open_socket: socket.socket, exchange: Exchange, read: Callable[[], bool], until: Callable[[], bool]
    ) -> bool:
        """Call `read` until it returns True (the end) or `until` does; returns whether the end was reached.

        The short timeout lets the client hang up on time and update `alive_us` often. Data that arrives now left the
        gateway no earlier than one response time ago, so the body was open then.
        """
        delay_us = exchange.answered_us - exchange.sent_us
        open_socket.settimeout(_POLL_S)
        while not until():
            before_us = now_us()
            with suppress(TimeoutError):
                if read():
                    return True
            exchange.alive_us = max(exchange.answered_us, before_us - delay_us)
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self, request: bytes, exchange: Exchange) -> tuple[socket.socket, int]:
        """Send `request`; returns the socket, and the time in us at which the exchange times out."""
        if now_us() - self._used_us > _MAX_IDLE_S * SECOND_US:
            self.close()
        if self._socket is None:
            self._socket = self._target.connect()
        self._used_us = exchange.sent_us = now_us()
        self._socket.settimeout(self._target.timeout_s)
        self._socket.sendall(request)
        return self._socket, self._used_us + round(self._target.timeout_s * SECOND_US)

    @staticmethod
    def _read_head(
        open_socket: socket.socket, method: str, exchange: Exchange, until_us: int, begun: bytes = b""
    ) -> ResponseParser:
        response = ResponseParser(method)
        if begun:
            response.take(begun)
        while not response.has_head:
            response.take(_receive(open_socket, until_us))
        exchange.answered_us = exchange.alive_us = now_us()
        exchange.status = response.get_code()
        exchange.headers = [(name.lower(), value) for name, value in response.items() if name.lower() in KEPT_HEADERS]
        return response

    @staticmethod
    def _keep_body(response: ResponseParser, exchange: Exchange, refused_status: int) -> None:
        if exchange.status == refused_status:
            exchange.body = response.body.decode(errors="replace")


def _receive(open_socket: socket.socket, until_us: int) -> bytes:
    """Receive data before `until_us`, however slowly it arrives. Raises TimeoutError."""
    if (left_us := until_us - now_us()) <= 0:
        raise TimeoutError
    open_socket.settimeout(left_us / SECOND_US)
    return open_socket.recv(_BLOCK_BYTES)
