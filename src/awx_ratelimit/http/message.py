"""The HTTP messages that adapters and gates exchange: `Request`, `FullRequest`, `Reply` and `Refusal`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http.header_values import cookie_values

Headers = Sequence[tuple[bytes, bytes]]
#: Longer query strings and those with more fields are read as empty.
_MAX_QUERY_BYTES = 16_384
_MAX_QUERY_FIELDS = 256


class Request(NamedTuple):
    """The parts of a request that limits and identifiers need.

    `path` is the whole path, decoded, with the prefix that the app is mounted under. `client` is the address of the
    peer, None if the server does not know it. `values` returns all values of a header, given its lower-case name, as
    the bytes that were sent. `inner_path` is the path that the application may see instead of `path`, or None if it
    sees `path`. A request is charged for both paths, and exempt only if both are. `source` is what the request was read
    from: the ASGI scope, the WSGI environ, or the framework's own request.

    `values(b"")` returns the values of all headers from which a server may have taken a prefix of the path.
    """

    method: str
    path: str
    client: str | None
    values: Callable[[bytes], list[bytes]]
    inner_path: str | None = None
    source: Any = None

    def sent_prefixes(self) -> list[bytes]:
        """The values of all headers in which the client may have sent a prefix of the path."""
        return self.values(b"")

    def header(self, name: str) -> str | None:
        """The first value of a header, or None. Use it only for headers that a client cannot usefully send twice."""
        values = self.values(name.lower().encode("latin-1"))
        return values[0].decode("latin-1") if values else None

    def cookie(self, name: str) -> str | None:
        """The value of the cookie `name`, as it was sent, or None. It never raises.

        Names are compared as bytes. If several cookies have the name, this is the first. Only this host can set a
        cookie whose name begins with ``__Host-``; another host of the same site can set one of any other name.
        Cookies of more than 4,096 bytes, which browsers do not keep, are ignored.
        """
        value = next(cookie_values(self.values(b"cookie"), name.encode("utf-8", "replace")), None)
        return None if value is None else value.decode("latin-1")

    def query(self, name: str) -> str | None:
        """The first value of the field `name` of the query, decoded, or None. It never raises."""
        return next((value for key, value in _fields(self._query_bytes()) if key == name), None)

    @property
    def user(self) -> Any:
        """The user whom a middleware outside ours has authenticated, or None.

        It is ``scope["user"]`` (Starlette's AuthenticationMiddleware), ``REMOTE_USER`` of a WSGI environ, or the
        attribute `user` of the framework's own request (Django).
        """
        return self._from_source("user", "REMOTE_USER")

    @property
    def session(self) -> Any:
        """The session that a middleware outside ours has opened, or None.

        It is ``scope["session"]`` (Starlette's SessionMiddleware), ``beaker.session`` of a WSGI environ, or the
        attribute `session` of the framework's own request (Django).
        """
        return self._from_source("session", "beaker.session")

    def _from_source(self, name: str, variable: str) -> Any:
        source = self.source
        if isinstance(source, Mapping):
            return source.get(variable if "REQUEST_METHOD" in source else name)
        return getattr(source, name, None)

    def _query_bytes(self) -> bytes:
        source = self.source
        if not isinstance(source, Mapping):
            source = getattr(source, "scope", None) or getattr(source, "META", None) or {}
        query = source.get("query_string") or source.get("QUERY_STRING") or b""
        return query if isinstance(query, bytes) else str(query).encode("latin-1", "replace")


class FullRequest(NamedTuple):
    """A request with its raw query string and its body, for handlers such as ManagementApi and Console."""

    request: Request
    query: bytes
    body: bytes


class Reply(NamedTuple):
    """A whole response. Header names are lower-case. `body` is what a GET gets; a HEAD gets the headers alone."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def json(cls, content: object, *, status: int = 429) -> "Reply":
        """`content` as a JSON response, without spaces. Raises TypeError if it cannot be written as JSON."""
        text = json.dumps(content, separators=(",", ":"))
        return cls(status, [(b"content-type", b"application/json")], text.encode())

    @classmethod
    def text(cls, content: str, *, status: int = 429, content_type: str = "text/plain; charset=utf-8") -> "Reply":
        """`content` in UTF-8 as a response, such as a page with ``content_type="text/html; charset=utf-8"``."""
        return cls(status, [(b"content-type", content_type.encode("latin-1"))], content.encode())


class Refusal(NamedTuple):
    """Why a request gets a 429, for `on_refused`.

    `retry_after_s` is the value of Retry-After, None if no wait can help. `limits` are the names of the limits that
    refused. `decision` is None if the client's address has sent too many unknown keys, or if the cost is above a burst.
    `reply` is the usual response.
    """

    retry_after_s: int | None
    limits: list[str]
    decision: Decision | None
    reply: Reply


#: Returns the response to a refused request, or None for the usual one.
OnRefused = Callable[[Request, Refusal], Reply | None]


#: Replies to full requests. It may block.
Handler = Callable[[FullRequest], Reply]


def _fields(query: bytes) -> list[tuple[str, str]]:
    if len(query) > _MAX_QUERY_BYTES:
        return []
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        return []


def text_headers(headers: Headers) -> list[tuple[str, str]]:
    """`headers` as text, for WSGI and for frameworks that take no bytes."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
