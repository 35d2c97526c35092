"""What a WSGI environ says of a request, and a whole reply onto the wire: for the adapters of WSGI."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Lines = list[tuple[bytes, bytes]]
HeaderLines = list[tuple[str, str]]

#: How much of a refused request's body is read by default.
MAX_DRAIN_BYTES: Final = 1_048_576
_MAX_DRAIN_S = 2.0
#: Small, because a server may wait for a piece to be whole before it returns any of it.
_PIECE_BYTES = 4_096
_MAX_DIGITS = 18
#: What `Request(...)` ends in, without the call in between.
_new = tuple.__new__
#: The two headers that CGI has named without a prefix.
_BARE = (b"content-type", b"content-length")
#: Pyramid's traversal puts what this header says before the path.
_VIRTUAL_ROOT = "HTTP_X_VHM_ROOT"
_PREFIX_VARIABLES = frozenset(f"HTTP_{name.decode().upper().replace('-', '_')}" for name in PREFIX_HEADERS)


def request_of(environ: Environ) -> Request:
    """The request of an environ."""

    def values(name: bytes) -> list[bytes]:
        value = environ.get(_variable(name))
        if value is None:
            return [] if name else _sent_prefixes(environ)
        return [value.encode("latin-1", "replace")]

    inner = environ.get("PATH_INFO", "")
    path = _decoded(environ.get("SCRIPT_NAME", "") + inner)
    # The client may have sent the whole path as a prefix.
    inner_path = None if inner or not _sent_prefixes(environ) else "/"
    if _VIRTUAL_ROOT in environ:
        inner_path, path = path, _decoded(environ[_VIRTUAL_ROOT]) + path
    return _new(Request, (environ["REQUEST_METHOD"], path, environ.get("REMOTE_ADDR") or None, values, inner_path))


def _sent_prefixes(environ: Environ) -> list[bytes]:
    """The headers that are known to carry a prefix; and where there is a prefix, every header that names it.

    A middleware may take quotes off the value of such a header, so with one the prefix itself may be the client's.
    """
    script_name = environ.get("SCRIPT_NAME", "")
    prefix = script_name.strip(" \t/")
    sent = [
        value
        for name, value in environ.items()
        if name in _PREFIX_VARIABLES or (prefix and name.startswith("HTTP_") and value.strip(" \t/") == prefix)
    ]
    if sent and prefix:
        sent.append(script_name)
    return [value.encode("latin-1", "replace") for value in sent]


@lru_cache(maxsize=64)
def _variable(name: bytes) -> str:
    variable = name.decode("latin-1").upper().replace("-", "_")
    return variable if name in _BARE else f"HTTP_{variable}"


def _decoded(path: str) -> str:
    if path.isascii():
        return path or "/"
    return path.encode("latin-1", "replace").decode("utf-8", "replace") or "/"


def in_words(headers: Lines) -> HeaderLines:
    """Header lines as WSGI has them."""
    return [(str(name, "latin-1"), str(value, "latin-1")) for name, value in headers]


def length_of(text: str) -> int | None:
    """The number in a Content-Length; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def drain(environ: Environ, max_bytes: int) -> None:
    """Read and discard the body of a request that is answered without it, up to `max_bytes`.

    If a body is left unread, a server closes the connection with a reset, and a proxy in front turns the answer into a
    502. A client that sent ``Expect: 100-continue`` waits for the answer before it sends the body, so nothing is read.
    """
    text = environ.get("CONTENT_LENGTH")
    if (text or "HTTP_TRANSFER_ENCODING" in environ) and not _waits_for_the_answer(environ):
        discard(environ, min(_announced_bytes(environ, text, max_bytes), max_bytes))


def discard(environ: Environ, left: int) -> None:
    """Read `left` bytes of the body. No read begins after 2 seconds; the server's timeout bounds each single read."""
    until = monotonic() + _MAX_DRAIN_S
    try:
        while left > 0 and monotonic() < until:
            piece = environ["wsgi.input"].read(min(left, _PIECE_BYTES))
            if not piece:
                return
            left -= len(piece)
    except Exception:  # each server and middleware raises errors of its own types, and the answer is due anyway
        return


def _waits_for_the_answer(environ: Environ) -> bool:
    return "100-continue" in environ.get("HTTP_EXPECT", "").lower()


def _announced_bytes(environ: Environ, text: str | None, max_bytes: int) -> int:
    if text:
        return length_of(text) or 0
    # Without a length and without an end that the server marks, a read could block for ever (PEP 3333).
    return max_bytes if environ.get("wsgi.input_terminated") else 0


def send_reply(reply: Reply, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Start the response with `reply`, and give its body; to a HEAD none."""
    start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", in_words(reply.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]
