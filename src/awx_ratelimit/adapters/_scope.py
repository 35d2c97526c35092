"""What an ASGI scope says of a request, and a whole reply onto the wire: for the adapters of ASGI."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from awx_ratelimit.web.message import Reply, Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What `Request(...)` ends in, without the call in between.
_new = tuple.__new__


def request_of(scope: Scope) -> Request:
    """The request of an HTTP scope, or the handshake of a WebSocket's."""
    headers = scope["headers"]
    if headers.__class__ is not list:
        headers = [*headers]

    # ASGI promises names in lower case.
    def values(name: bytes) -> list[bytes]:
        by_name = dict(headers)
        if len(by_name) == len(headers):
            # No header stands twice: the look-up of a dict is faster than a loop, even with the making of it.
            return [by_name[name]] if name in by_name else []
        return [value for key, value in headers if key == name]

    client = scope.get("client")
    path = _full_path(scope) if scope.get("root_path") else scope["path"]
    return _new(Request, (scope.get("method", "GET"), path, client[0] if client else None, values, None))


def _full_path(scope: Scope) -> str:
    """The path with the prefix of what is mounted: by the specification it has it, and some servers leave it out."""
    path: str = scope["path"]
    root: str = scope["root_path"]
    return path if path == root or path.startswith(f"{root}/") else root + path


async def send_reply(reply: Reply, scope: Scope, send: Send, *, prefix: str = "http") -> None:
    """Send the whole of `reply`; to a HEAD its headers."""
    body = b"" if scope.get("method") == "HEAD" else reply.body
    await send({"type": f"{prefix}.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": f"{prefix}.response.body", "body": body})
