"""A server that sends malformed, endless and strange responses, one for each path."""

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
#: A 101, and a close frame with the code "try again later", which may arrive together.
REFUSED_FEED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CLOSE = b"\x88" + bytes((2,)) + struct.pack("!H", 1013)
GREETING = b"\x81\x05hello\x82\x7e" + struct.pack("!H", 300) + b"\0" * 300


def refusal(*lines: bytes, body: bytes = b"") -> bytes:
    """A 429 with these headers and this body."""
    head = b"\r\n".join((b"HTTP/1.1 429 Too Many Requests", *lines, b"Content-Length: %d" % len(body)))
    return head + b"\r\n\r\n" + body


def contract_body(wait_s: str) -> bytes:
    """The body of the contract, with a wait of `wait_s`."""
    message = f"Rate limit exceeded. Retry after {wait_s} seconds."
    return json.dumps({"code": "rate_limit_exceeded", "type": "rate_limit_error", "message": message}).encode()


def refusal_with_wait(wait: bytes) -> bytes:
    """A refusal that is correct except perhaps for its Retry-After."""
    return refusal(b"Content-Type: application/json", b"Retry-After: " + wait, body=contract_body("2"))


def drip(data: bytes) -> Iterator[bytes]:
    """One byte every 50 ms."""
    for byte in data:
        time.sleep(0.05)
        yield bytes((byte,))


#: The pieces of the response for each path. The connection closes after the last one.
RESPONSES: dict[str, Callable[[], Iterable[bytes]]] = {
    "/fine": lambda: (FINE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1),),
    "/endless-body": lambda: (CHUNKED, *[b"10000\r\n" + BLOCK + b"\r\n"] * 300),
    "/dripping-body": lambda: chain((CHUNKED,), drip(b"1\r\nx\r\n" * 100)),
    "/dripping-head": lambda: drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100),
    "/endless-head": lambda: (b"HTTP/1.1 200 OK\r\n", *repeat(b"X: " + b"y" * 9_000 + b"\r\n", 100)),
    "/endless-hints": lambda: drip(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
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
    "/wait-date": lambda: (refusal_with_wait(b"Wed, 21 Oct 2026 07:28:00 GMT"),),
    "/wait-negative": lambda: (refusal_with_wait(b"-1"),),
    "/wait-nan": lambda: (refusal_with_wait(b"NaN"),),
    "/wait-superscript": lambda: (refusal_with_wait(b"\xb2"),),
    "/wait-twice": lambda: (refusal_with_wait(b"2\r\nRetry-After: 2"),),
    "/refusal-slowly": lambda: chain((refusal(body=BLOCK)[:-9],), drip(b"x" * 9)),
    # Echoes the key in a header and in the body.
    "/telling": lambda: (refusal(b"Retry-After: awx_test_key_2", body=b'{"sent": "awx_test_key_2"}'),),
    "/wait-none": lambda: (refusal(b"Content-Type: application/json", body=contract_body("2")),),
    "/feed-refused": lambda: (REFUSED_FEED + CLOSE,),
    "/feed-refused-slowly": lambda: chain(drip(REFUSED_FEED[:3]), (REFUSED_FEED[3:], GREETING + CLOSE[:3], CLOSE[3:])),
    "/feed-greets": lambda: (REFUSED_FEED, GREETING, *repeat(b"", 60)),
}


class _Hostile(BaseRequestHandler):
    def handle(self) -> None:
        received = self.request.recv(65_536)
        self.server.received.append(received)  # type: ignore[attr-defined]  # _Server has it
        with suppress(OSError):
            for piece in RESPONSES[received.split()[1].decode()]():
                self.request.sendall(piece) if piece else time.sleep(0.05)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Hostile)
        self.received: list[bytes] = []
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the TLS handshake in the request's thread, because a client may be slow."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with suppress(OSError), self._tls.wrap_socket(request, server_side=True) as private:
            super().finish_request(private, client_address)


@contextmanager
def hostile(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Run the server; yields its URL and the requests that it receives."""
    with _Server(tls) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.received
        finally:
            server.shutdown()
