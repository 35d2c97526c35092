"""The HTTP messages that adapters and gates exchange: `Request`, `FullRequest` and `Reply`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from awx_ratelimit.http.header_values import cookie_values

Headers = Sequence[tuple[bytes, bytes]]


class Request(NamedTuple):
    """The parts of a request that limits and identifiers need.

    `path` is the whole path, decoded, with the prefix that the app is mounted under. `client` is the address of the
    peer, None if the server does not know it. `values` returns all values of a header, given its lower-case name, as
    the bytes that were sent. `inner_path` is the path that the application may see instead of `path`, or None if it
    sees `path`. A request is charged for both paths, and exempt only if both are.

    `values(b"")` returns the values of all headers from which a server may have taken a prefix of the path.
    """

    method: str
    path: str
    client: str | None
    values: Callable[[bytes], list[bytes]]
    inner_path: str | None = None

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


#: Replies to full requests. It may block.
Handler = Callable[[FullRequest], Reply]
