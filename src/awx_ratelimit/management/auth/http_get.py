"""One GET request with one deadline for its head and body together.

A socket's timeout is for each read, so a server that sends a byte now and then never reaches it. Here each read gets
what is left of the time. The resolver of names has no timeout, and each address of a name and the TLS handshake have
one of their own: call this from a thread that nobody has to wait for.
"""

import io
import time
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, build_opener

_READ_BYTES = 65_536


def get(url: str, *, timeout_s: float, max_bytes: int) -> bytes:
    """The body at `url`, without following redirects.

    Raises OSError and HTTPException for any other answer than a complete one of status 200, and ValueError for a body
    of more than `max_bytes`.
    """
    until_s = time.monotonic() + timeout_s
    opener = build_opener(_NoRedirects, _Http(until_s), _Https(until_s))
    with opener.open(url, timeout=timeout_s) as answer:
        body = b""
        while piece := answer.read1(_READ_BYTES):
            body += piece
            if len(body) > max_bytes:
                raise ValueError(f"the answer has more than {max_bytes} bytes")
    return body


def _left_s(until_s: float) -> float:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the answer took too long")
    return left_s


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Http(HTTPHandler):
    def __init__(self, until_s: float) -> None:
        super().__init__()
        self._until_s = until_s

    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(_connection, HTTPConnection, self._until_s), req)


class _Https(HTTPSHandler):
    def __init__(self, until_s: float) -> None:
        super().__init__()
        self._until_s = until_s

    def https_open(self, req: Any) -> Any:
        return self.do_open(partial(_connection, HTTPSConnection, self._until_s), req)


def _connection(kind: type[HTTPConnection], until_s: float, host: str, **options: Any) -> HTTPConnection:
    made = kind(host, **options)
    made.response_class = partial(_Response, until_s)  # type: ignore[assignment]
    return made


class _Response(HTTPResponse):
    def __init__(self, until_s: float, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, until_s))


class _Timed(io.RawIOBase):
    """Reads from `sock`, each time with what is left until `until_s` as its timeout."""

    def __init__(self, raw: io.RawIOBase, sock: Any, until_s: float) -> None:
        self._raw = raw
        self._sock = sock
        self._until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left_s(self._until_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
