"""HTTP/1.1 over one connection, and when each part of it happened.

It sends nothing twice and takes no answer for another's: what was sent once is charged once. Thinner than Locust's own
clients, so that the tester is no slower than they are.
"""

import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from os import urandom
from urllib.parse import SplitResult, urlsplit

from gevent import Timeout

from awx_ratelimit.loadtest.audit.contract import KEPT
from awx_ratelimit.loadtest.load.http_parser import MOST_HEAD_BYTES, Answer, Frames

#: A server closes what is idle; within this time none does.
_IDLE_S = 1.0
_LOOK_S = 0.1
_BLOCK_BYTES = 16_384
_ACCEPTED = b"HTTP/1.1 101"
_HEAD_ENDS = b"\r\n\r\n"
#: Codes of a close (RFC 6455, 7.4.1): it just ended, and come back later.
_ABNORMAL, _TRY_AGAIN = 1006, 1013
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
        """A new connection, to be had in the time of a request: its host's name and its TLS included."""
        with Timeout(self.timeout_s, TimeoutError):
            return self._connected()

    def _connected(self) -> socket.socket:
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
        open_socket, done, until_us = self._begin(request)
        answer = self._head(open_socket, method, done, until_us)
        while not answer.whole:
            answer.take(_received(open_socket, until_us))
        done.ended_us = self._used_us = now_us()
        done.alive_us = done.answered_us
        self._keep(answer, done, refused_status)
        if answer.should_close():
            self.close()
        return done

    def hold(self, request: bytes, refused_status: int, until: Callable[[], bool]) -> Exchange:
        """One request, read piece by piece to its end, or until `until` says to hang up. Raises one of BROKEN."""
        open_socket, done, until_us = self._begin(request)
        answer = self._head(open_socket, "GET", done, until_us)
        delay_us = done.answered_us - done.sent_us
        # Short, so that it hangs up when it should, and knows often that the body has not ended.
        open_socket.settimeout(_LOOK_S)
        while not answer.whole and not until():
            before_us = now_us()
            with suppress(TimeoutError):
                answer.take(open_socket.recv(_BLOCK_BYTES))
            if not answer.whole:
                # It had not ended when it was waited for; what was on its way then is no older than an answer was.
                done.alive_us = max(done.answered_us, before_us - delay_us)
        done.hung_up = not answer.whole
        self._keep(answer, done, refused_status)
        self.close()
        done.ended_us = now_us()
        return done

    def hold_websocket(self, request: bytes, refused_status: int, until: Callable[[], bool]) -> Exchange:
        """A WebSocket, held until `until` says to hang up. Raises one of BROKEN."""
        open_socket, done, until_us = self._begin(request)
        begun = b""
        while _HEAD_ENDS not in begun and len(begun) <= MOST_HEAD_BYTES:
            begun += (more := _received(open_socket, until_us))
            if not more:
                break
        # The parser takes no protocol after an upgrade, so its own part is the refusal.
        if begun.startswith(_ACCEPTED):
            done.answered_us = done.alive_us = now_us()
            done.status = 101
            self._held(open_socket, done, begun.partition(_HEAD_ENDS)[2], until)
        else:
            answer = self._head(open_socket, "GET", done, until_us, begun)
            while not answer.whole:
                answer.take(_received(open_socket, until_us))
            self._keep(answer, done, refused_status)
        self.close()
        done.ended_us = now_us()
        return done

    def _held(self, open_socket: socket.socket, done: Exchange, begun: bytes, until: Callable[[], bool]) -> None:
        frames, delay_us = Frames(), done.answered_us - done.sent_us
        done.closed_with = frames.closed_with(begun)
        open_socket.settimeout(_LOOK_S)
        while not done.closed_with and not until():
            before_us = now_us()
            with suppress(TimeoutError):
                data = open_socket.recv(_BLOCK_BYTES)
                done.closed_with = frames.closed_with(data) if data else _ABNORMAL
            if not done.closed_with:
                done.alive_us = max(done.answered_us, before_us - delay_us)
        done.hung_up = not done.closed_with

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self, request: bytes) -> tuple[socket.socket, Exchange, int]:
        """Send it; the connection, what happens, and until when it may."""
        if now_us() - self._used_us > _IDLE_S * 1_000_000:
            self.close()
        if self._socket is None:
            self._socket = self._target.connect()
        self._used_us = now_us()
        self._socket.settimeout(self._target.timeout_s)
        self._socket.sendall(request)
        return self._socket, Exchange(self._used_us), self._used_us + round(self._target.timeout_s * 1_000_000)

    def _head(
        self, open_socket: socket.socket, method: str, done: Exchange, until_us: int, begun: bytes = b""
    ) -> Answer:
        answer = Answer(method)
        if begun:
            answer.take(begun)
        while not answer.has_head:
            answer.take(_received(open_socket, until_us))
        done.answered_us = done.alive_us = now_us()
        done.status = answer.get_code()
        done.headers = [(name.lower(), value) for name, value in answer.items() if name.lower() in KEPT]
        return answer

    @staticmethod
    def _keep(answer: Answer, done: Exchange, refused_status: int) -> None:
        if done.status == refused_status:
            done.body = answer.body.decode(errors="replace")


def _received(open_socket: socket.socket, until_us: int) -> bytes:
    """What comes next, and comes in time: a byte now and then does not make it longer."""
    if (left_us := until_us - now_us()) <= 0:
        raise TimeoutError
    open_socket.settimeout(left_us / 1_000_000)
    return open_socket.recv(_BLOCK_BYTES)


def refused_websocket(done: Exchange) -> bool:
    """Whether it was refused: before it was accepted (403), or by a close that says to try again later."""
    return done.status == 403 or done.closed_with == _TRY_AGAIN
