r"""The HTTP messages that adapters and gates exchange, and bounded reads of their headers.

The work for one header does not grow with what a client sends: everything in this library that parses a header reads
it through these functions. Content negotiation follows RFC 9110, section 12.5.1.

Cookies (RFC 6265) are read as bytes, and only spaces and tabs around a name are ignored. A neighbouring host can set a
cookie such as ``\xa0__Host-session``, whose name a browser keeps apart. A parser that strips more than browsers do, or
decodes first, takes it for the cookie that only this host can set.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from awx_ratelimit.core.decision import Decision

Headers = Sequence[tuple[bytes, bytes]]
#: The longest value that is parsed. Longer ones are refused, or cut where a cut cannot help the client.
MAX_BYTES: Final = 1_024
_MAX_LINES: Final = 32

#: The bytes of all Cookie headers together that are read. Most servers accept no more for all headers of a request.
MAX_COOKIES_BYTES: Final = 16_384
#: Browsers keep no longer cookie (RFC 6265bis, section 5.7).
MAX_COOKIE_BYTES: Final = 4_096
#: Browsers keep fewer cookies for one site.
_MAX_COOKIE_MATCHES: Final = 256

_PROBLEM: Final = b"application/problem+json"
_JSON: Final = b"application/json"
_MATCHING_RANGES: Final = frozenset((_PROBLEM, _JSON, b"application/*", b"*/*"))
#: Browsers and HTTP libraries send fewer.
_MAX_RANGES: Final = 16
_MAX_PARAMETERS: Final = 8


def only_value(values: Sequence[bytes]) -> bytes | None:
    """The value of a header that was sent once with at most MAX_BYTES; otherwise None."""
    return values[0] if len(values) == 1 and len(values[0]) <= MAX_BYTES else None


def first_bytes(values: Sequence[bytes]) -> tuple[bytes, bool]:
    """The first MAX_BYTES of `values`, joined by commas, and whether anything was cut off."""
    text = b",".join([value[: MAX_BYTES + 1] for value in values[:_MAX_LINES]])
    return text[:MAX_BYTES], len(text) > MAX_BYTES or len(values) > _MAX_LINES


def last_items(values: Sequence[bytes]) -> bytes:
    """The last MAX_BYTES of `values`, joined by commas, without an item that was cut."""
    text = b",".join([value[-MAX_BYTES - 1 :] for value in values[-_MAX_LINES:]])
    # The end of a cut item could be a valid item itself: the end of an address is an address.
    return text if len(text) <= MAX_BYTES else text[-MAX_BYTES:].partition(b",")[2]


def cookie_values(values: Sequence[bytes], name: bytes) -> Iterator[bytes]:
    """Every value of the cookie `name` in the ``Cookie`` headers, in order, without the spaces around it.

    Cookies without ``=`` and cookies of more than MAX_COOKIE_BYTES are skipped. Searching for the name instead of
    splitting the text takes microseconds, whatever a client sends.
    """
    text = b";".join(values)[:MAX_COOKIES_BYTES]
    end = 0
    for _ in range(_MAX_COOKIE_MATCHES):
        at = text.find(name, end) if name else -1
        if at < 0:
            return
        start, end = text.rfind(b";", 0, at) + 1, text.find(b";", at)
        end = len(text) if end < 0 else end
        if end - start <= MAX_COOKIE_BYTES:
            key, equals, value = text[start:end].partition(b"=")
            if equals and _is_name(key, at - start, name):
                yield value.strip(b" \t")


def _is_name(key: bytes, at: int, name: bytes) -> bool:
    """Whether `key` is `name`, which begins at `at`, with nothing but spaces and tabs around it."""
    # `translate` takes a fifth of the time of `strip`.
    return not key[:at].translate(None, b" \t") and key[at:].rstrip(b" \t") == name


def prefers_problem(accept: Sequence[bytes]) -> bool:
    """Whether the client prefers `application/problem+json` to `application/json`.

    Only the first kilobyte and the first 16 ranges count. The rest is ignored.
    """
    if not accept:
        return False
    text, is_cut = first_bytes(accept)
    text = text.lower()
    if b"problem+json" not in text:
        return False
    qualities = _qualities(text.rpartition(b",")[0] if is_cut else text)
    return _quality_of(qualities, _PROBLEM) > _quality_of(qualities, _JSON)


def accepts_html(accept: Sequence[bytes]) -> bool:
    """Whether `text/html` is in the first kilobyte. Every browser sends it there."""
    return b"text/html" in first_bytes(accept)[0].lower()


def _quality_of(qualities: dict[bytes, float], media_type: bytes) -> float:
    """The quality of the most specific range that covers `media_type`; 0 if none does."""
    return next((qualities[name] for name in (media_type, b"application/*", b"*/*") if name in qualities), 0.0)


def _qualities(text: bytes) -> dict[bytes, float]:
    qualities = {}
    for media_range in text.split(b",", _MAX_RANGES)[:_MAX_RANGES]:
        name, _, parameters = media_range.partition(b";")
        name = name.strip()
        if name in _MATCHING_RANGES:
            qualities[name] = _quality(parameters)
    return qualities


def _quality(parameters: bytes) -> float:
    stripped = map(bytes.strip, parameters.split(b";", _MAX_PARAMETERS)[:_MAX_PARAMETERS])
    quality = next((parameter for parameter in stripped if parameter.startswith(b"q=")), b"q=1")
    try:
        return float(quality.removeprefix(b"q="))
    except ValueError:
        return 0.0


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
        """The user whom a middleware outside of ours has authenticated, or None.

        It is ``scope["user"]`` (Starlette's AuthenticationMiddleware), ``REMOTE_USER`` of a WSGI environ, or the
        attribute `user` of the framework's own request (Django).
        """
        return self._from_source("user", "REMOTE_USER")

    @property
    def session(self) -> Any:
        """The session that a middleware outside of ours has opened, or None.

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
        """`content` as a JSON response. Raises TypeError if it cannot be written as JSON."""
        return cls(status, [(b"content-type", b"application/json")], json.dumps(content).encode())

    @classmethod
    def text(cls, content: str, *, status: int = 429, content_type: str = "text/plain; charset=utf-8") -> "Reply":
        """`content` in UTF-8 as a response, such as a page with ``content_type="text/html; charset=utf-8"``."""
        return cls(status, [(b"content-type", content_type.encode("latin-1"))], content.encode())


class Refusal(NamedTuple):
    """Why a request is refused, for `on_refused`.

    `retry_after_s` is the value of Retry-After, None if no wait can help. `limits` are the names of the limits that
    refused. `decision` is None if the client's address has sent too many unknown keys. `reply` is the usual response.
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
