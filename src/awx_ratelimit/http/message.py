"""`Request`, `WholeRequest` and `Reply`: the little that an adapter says of a request, and what it sends instead."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from awx_ratelimit.http.cookies import values_of

Headers = Sequence[tuple[bytes, bytes]]


class Request(NamedTuple):
    """One request, as far as limits go.

    `path` is decoded and whole, with the prefix of what the app is mounted under. `client` is the address of the
    peer, None where the server does not say. `values` gives every value of a header by its lower-case name, as the
    bytes that were sent. `inner_path` is the path that the application may see instead, None where that is certain:
    a request is charged for both, and exempt only if both are.

    `values(b"")` gives the values of all headers that a prefix of the path may have come from. Adapters know them.
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
        """The first value of a header, or None; for a header that may be trusted to stand once."""
        values = self.values(name.lower().encode("latin-1"))
        return values[0].decode("latin-1") if values else None

    def cookie(self, name: str) -> str | None:
        """The value of the cookie `name`, as it was sent, or None. It never raises.

        Names are compared as bytes. If several cookies have the name, it is the first. Only this host can set a cookie
        whose name begins with ``__Host-``; another host of the same site can set one of any other name.
        A cookie of more than 4,096 bytes, which no browser keeps, is not read.
        """
        value = next(values_of(self.values(b"cookie"), name.encode("utf-8", "replace")), None)
        return None if value is None else value.decode("latin-1")


class WholeRequest(NamedTuple):
    """A request with its query as it was sent, and its body: for what answers by itself and not for an app."""

    request: Request
    query: bytes
    body: bytes


class Reply(NamedTuple):
    """A whole answer. Names of headers are lower-case; `body` is what a GET would get."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


#: What answers whole requests; it may block.
Answer = Callable[[WholeRequest], Reply]
