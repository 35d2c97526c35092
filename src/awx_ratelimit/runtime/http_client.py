"""An HTTP client for one request whose response has one deadline. Redirects are not followed.

A socket's time-out applies to each read, so a server that sends single bytes never exceeds it. Here each read gets only
the remaining time. Name resolution has no time-out, and each address and the TLS handshake have their own: call this in
a thread for which nobody waits.
"""

import io
import time
from collections.abc import Mapping
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

#: The hosts to which a URL without TLS is safe.
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_READ_BYTES = 65_536


def get(url: str, *, until_s: float, max_bytes: int) -> bytes:
    """Return the body at `url`, read until `until_s` of `time.monotonic`. Redirects are not followed.

    Raises OSError or HTTPException unless the response is complete and has status 200, and ValueError if the body is
    longer than `max_bytes`.
    """
    with _opener(until_s).open(url, timeout=_remaining_s(until_s)) as response:
        body = b""
        while chunk := response.read1(_READ_BYTES):
            body += chunk
            if len(body) > max_bytes:
                raise ValueError(f"the response has more than {max_bytes} bytes")
    return body


def post(url: str, body: bytes, headers: Mapping[str, str], *, until_s: float) -> int:
    """Send `body`, and return the status of the response, which is 300 to 399 for a redirect. Its body is not read.

    Raises OSError or HTTPException without a response until `until_s` of `time.monotonic`.
    """
    request = Request(url, body, dict(headers), method="POST")  # noqa: S310  # the callers check the URL
    try:
        with _opener(until_s).open(request, timeout=_remaining_s(until_s)) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def _opener(until_s: float) -> OpenerDirector:
    return build_opener(_NoRedirects, _Handler(until_s))


def _remaining_s(until_s: float) -> float:
    remaining_s = until_s - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError("the response took too long")
    return remaining_s


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Handler(HTTPSHandler, HTTPHandler):
    def __init__(self, until_s: float) -> None:
        super().__init__()
        self._until_s = until_s

    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(_connection, HTTPConnection, self._until_s), req)

    def https_open(self, req: Any) -> Any:
        return self.do_open(partial(_connection, HTTPSConnection, self._until_s), req)


def _connection(kind: type[HTTPConnection], until_s: float, host: str, **options: Any) -> HTTPConnection:
    connection = kind(host, **options)
    connection.response_class = partial(_Response, until_s)  # type: ignore[assignment]
    return connection


class _Response(HTTPResponse):
    def __init__(self, until_s: float, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock, until_s))


class _DeadlineReader(io.RawIOBase):
    """Reads from `sock`, with the time that remains until `until_s` as the time-out of each read."""

    def __init__(self, raw: io.RawIOBase, sock: Any, until_s: float) -> None:
        self._raw = raw
        self._sock = sock
        self._until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_remaining_s(self._until_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
