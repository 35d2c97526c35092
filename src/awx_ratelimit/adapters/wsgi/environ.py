"""Reads a Request from a WSGI environ, discards bodies, and sends a Reply."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from time import monotonic
from typing import Any

from awx_ratelimit.adapters.options import MAX_DRAIN_S
from awx_ratelimit.http.gate_begins import Admitted
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Headers = list[tuple[bytes, bytes]]
WsgiHeaders = list[tuple[str, str]]

#: Small, because a server may return nothing until it has read a whole piece.
_PIECE_BYTES = 4_096
_MAX_DIGITS = 18
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__
#: The two headers whose variables have no prefix HTTP_.
_UNPREFIXED = (b"content-type", b"content-length")
#: Pyramid's traversal prepends the value of this header to the path.
_VIRTUAL_ROOT = "HTTP_X_VHM_ROOT"
_PREFIX_VARIABLES = frozenset(f"HTTP_{name.decode().upper().replace('-', '_')}" for name in PREFIX_HEADERS)


def request_of(environ: Environ) -> Request:
    """The request of an environ."""

    def values(name: bytes) -> list[bytes]:
        value = environ.get(variable_of(name))
        if value is None:
            return [] if name else _sent_prefixes(environ)
        return [value.encode("latin-1", "replace")]

    inner = environ.get("PATH_INFO", "")
    path = _decoded(environ.get("SCRIPT_NAME", "") + inner)
    inner_path = None if inner[:1] == "/" else _unusual_inner_path(environ, inner)
    if _VIRTUAL_ROOT in environ:
        inner_path, path = path, _decoded(environ[_VIRTUAL_ROOT]) + path
    client = environ.get("REMOTE_ADDR") or None
    return _new(Request, (environ["REQUEST_METHOD"], path, client, values, inner_path, environ))


def begun(environ: Environ, gate: Gate, variables: Iterable[tuple[str, bytes]]) -> Admitted | None:
    """What `gate.begin` returns for an environ. None also if more than its method, path and only key matters.

    `variables` are those in which a key may be, with their headers.
    """
    inner = environ.get("PATH_INFO", "")
    if inner[:1] != "/" or _VIRTUAL_ROOT in environ:
        return None
    sent = name = None
    for variable, header in variables:
        value = environ.get(variable)
        if value is not None:
            if sent is not None:
                return None
            sent, name = value, header
    if sent is None or name is None:
        return None
    path = environ.get("SCRIPT_NAME", "") + inner
    if not path.isascii():
        path = _decoded(path)
    key = sent.encode() if sent.isascii() else sent.encode("latin-1", "replace")
    return gate.begin(environ["REQUEST_METHOD"], path, name, key, environ, request_of)


def _unusual_inner_path(environ: Environ, inner: str) -> str | None:
    """The path that the application sees, if it does not begin with a slash and its prefix may come from the client."""
    if inner:
        return _decoded(inner) if environ.get("SCRIPT_NAME") else None
    # The client may have sent the whole path as a prefix in a header.
    return "/" if _sent_prefixes(environ) else None


def _sent_prefixes(environ: Environ) -> list[bytes]:
    """The values of headers that may carry a prefix: known ones, and any header whose value is the mount prefix.

    If there is one, the mount prefix is added, because a middleware may have removed quotes from the header's value.
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
def variable_of(name: bytes) -> str:
    """The variable of the header with this lower-case name."""
    variable = name.decode("latin-1").upper().replace("-", "_")
    return variable if name in _UNPREFIXED else f"HTTP_{variable}"


def _decoded(path: str) -> str:
    if path.isascii():
        return path or "/"
    return path.encode("latin-1", "replace").decode("utf-8", "replace") or "/"


def content_length(text: str) -> int | None:
    """The number in a Content-Length header; None if it is malformed."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def drain(environ: Environ, max_bytes: int) -> None:
    """Read and discard up to `max_bytes` of a body that the request announces. See MAX_DRAIN_BYTES.

    It reads nothing if the client sent ``Expect: 100-continue``, because that client waits before it sends the body.
    """
    text = environ.get("CONTENT_LENGTH")
    if "100-continue" in environ.get("HTTP_EXPECT", "").lower():
        return
    if text:
        discard(environ, min(content_length(text) or 0, max_bytes))
    elif "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated"):
        # Without a length and without a marked end, a read could block for ever (PEP 3333).
        discard(environ, max_bytes)


def discard(environ: Environ, left_bytes: int) -> None:
    """Read `left_bytes` of the body. No read begins after MAX_DRAIN_S; the server's timeout bounds each single read."""
    until_s = monotonic() + MAX_DRAIN_S
    try:
        while left_bytes > 0 and monotonic() < until_s:
            piece = environ["wsgi.input"].read(min(left_bytes, _PIECE_BYTES))
            if not piece:
                return
            left_bytes -= len(piece)
    except Exception:  # servers raise errors of many types, and the reply must be sent anyway
        return


def send_reply(reply: Reply, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Start the response with `reply` and return its body; empty for a HEAD request."""
    start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", text_headers(reply.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]
