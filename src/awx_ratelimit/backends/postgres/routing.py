"""Routes calls to the database that a URL names."""

from awx_ratelimit.backends.postgres.schema import checked_place
from awx_ratelimit.backends.postgres.server import server_at
from awx_ratelimit.backends.remote.routing import SingleServer
from awx_ratelimit.core.validation import type_name


def route_to(url: str, *, timeout_ms: int, schema: str, prefix: str) -> SingleServer:
    """The route to what `url` names. Raises TypeError unless it is a string, and ValueError for a wrong argument."""
    if not isinstance(url, str):
        raise TypeError(f"url: expected a string such as 'postgresql://user@host/database', got {type_name(url)}")
    if timeout_ms.__class__ is not int or timeout_ms < 1:
        raise ValueError(f"timeout_ms: expected an integer >= 1, got {timeout_ms!r}")
    return SingleServer(server_at(url, checked_place(schema, prefix), timeout_ms=timeout_ms))
