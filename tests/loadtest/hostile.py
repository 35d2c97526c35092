"""A server that sends whatever it likes, in bytes; each of its ways is under a path of its own."""

import gzip
import json
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

BLOCK = b"x" * 65_536
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
#: 101, and a close frame that says to try again later, as `accept_close` may come in one piece.
REFUSED_FEED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CLOSE = b"\x88" + bytes((2,)) + struct.pack("!H", 1013)
GREETING = b"\x81\x05hello\x82\x7e" + struct.pack("!H", 300) + b"\0" * 300


def refusal(*lines: bytes, body: bytes = b"") -> bytes:
    """A 429 with these lines and this body."""
    head = b"\r\n".join((b"HTTP/1.1 429 Too Many Requests", *lines, b"Content-Length: %d" % len(body)))
    return head + b"\r\n\r\n" + body


def well_formed(told: str) -> bytes:
    """The body of the contract, with these seconds."""
    message = f"Rate limit exceeded. Retry after {told} seconds."
    return json.dumps({"code": "rate_limit_exceeded", "type": "rate_limit_error", "message": message}).encode()


def waiting(told: bytes) -> bytes:
    """A refusal of which nothing is wrong but perhaps its Retry-After."""
    return refusal(b"Content-Type: application/json", b"Retry-After: " + told, body=well_formed("2"))


def slowly(data: bytes) -> Iterator[bytes]:
    """A byte now and then."""
    for byte in data:
        time.sleep(0.05)
        yield bytes((byte,))


#: What is sent for a request of each path, piece by piece; then it is closed.
WAYS: dict[str, Callable[[], Iterable[bytes]]] = {
    "/fine": lambda: (FINE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),),
    "/endless-body": lambda: (CHUNKED, *[b"10000\r\n" + BLOCK + b"\r\n"] * 300),
    "/dripping-body": lambda: chain((CHUNKED,), slowly(b"1\r\nx\r\n" * 100)),
    "/dripping-head": lambda: slowly(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100),
    "/endless-head": lambda: (b"HTTP/1.1 200 OK\r\n", *repeat(b"X: " + b"y" * 9_000 + b"\r\n", 100)),
    "/endless-hints": lambda: slowly(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
    "/no-http": lambda: (b"SSH-2.0-OpenSSH_9.2\r\n",),
    "/closes": lambda: (),
    "/cut-short": lambda: (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine",),
    "/two-answers": lambda: (FINE + FINE,),
    "/hints-first": lambda: (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", FINE),
    "/until-it-closes": lambda: (b"HTTP/1.1 200 OK\r\n\r\n", b"fine"),
    "/elsewhere": lambda: (b"HTTP/1.1 302 Found\r\nLocation: http://198.51.100.1/\r\nContent-Length: 0\r\n\r\n",),
    "/fails": lambda: (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",),
    "/gzip": lambda: (refusal(b"Content-Encoding: gzip", body=gzip.compress(b"0" * 1_000_000)),),
    "/no-text": lambda: (refusal(b"Retry-After: \xff\xfe", body=b"\xff\xfe\0<script>alert(1)</script>"),),
    "/nested": lambda: (refusal(b"Retry-After: 1", body=b"[" * 1_020),),
    "/wait-date": lambda: (waiting(b"Wed, 21 Oct 2026 07:28:00 GMT"),),
    "/wait-negative": lambda: (waiting(b"-1"),),
    "/wait-nan": lambda: (waiting(b"NaN"),),
    "/wait-superscript": lambda: (waiting(b"\xb2"),),
    "/wait-twice": lambda: (waiting(b"2\r\nRetry-After: 2"),),
    # What it was sent, in whatever it says.
    "/telling": lambda: (refusal(b"Retry-After: awx_test_key_2", body=b'{"sent": "awx_test_key_2"}'),),
    "/wait-none": lambda: (refusal(b"Content-Type: application/json", body=well_formed("2")),),
    "/feed-refused": lambda: (REFUSED_FEED + CLOSE,),
    "/feed-refused-slowly": lambda: chain(
        slowly(REFUSED_FEED[:3]), (REFUSED_FEED[3:], GREETING + CLOSE[:3], CLOSE[3:])
    ),
    "/feed-greets": lambda: (REFUSED_FEED, GREETING, *repeat(b"", 60)),
}


class _Hostile(BaseRequestHandler):
    def handle(self) -> None:
        asked = self.request.recv(65_536)
        self.server.asked.append(asked)  # type: ignore[attr-defined]  # of ours
        with suppress(OSError):
            for piece in WAYS[asked.split()[1].decode()]():
                self.request.sendall(piece) if piece else time.sleep(0.05)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Hostile)
        self.asked: list[bytes] = []
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the request: a handshake takes as long as its client likes."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with suppress(OSError), self._tls.wrap_socket(request, server_side=True) as private:
            super().finish_request(private, client_address)


@contextmanager
def hostile(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of one, and the requests that it has had."""
    with _Server(tls) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.asked
        finally:
            server.shutdown()
