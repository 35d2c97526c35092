"""What a WSGI environ says of a request, and a whole reply onto the wire: for the adapters of WSGI."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from awx_ratelimit.web.message import Reply, Request

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Lines = list[tuple[bytes, bytes]]
HeaderLines = list[tuple[str, str]]

#: What `Request(...)` ends in, without the call in between.
_new = tuple.__new__
#: The two headers that CGI has named without a prefix.
_BARE = (b"content-type", b"content-length")


def request_of(environ: Environ) -> Request:
    """The request of an environ."""

    def values(name: bytes) -> list[bytes]:
        value = environ.get(_variable(name))
        return [] if value is None else [value.encode("latin-1", "replace")]

    inner = environ.get("PATH_INFO", "")
    path = _decoded(environ.get("SCRIPT_NAME", "") + inner)
    # gunicorn takes the prefix from a header of this name, where it trusts who sends it.
    inner_path = _decoded(inner) if "HTTP_SCRIPT_NAME" in environ else None
    return _new(Request, (environ["REQUEST_METHOD"], path, environ.get("REMOTE_ADDR") or None, values, inner_path))


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


def send_reply(reply: Reply, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Start the response with `reply`, and give its body; to a HEAD none."""
    start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", in_words(reply.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]
