"""What an ASGI scope says of a request, and a whole reply onto the wire: for the adapters of ASGI."""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: How much of a refused request's body is read by default.
MAX_DRAIN_BYTES: Final = 1_048_576
_MAX_DRAIN_S = 2.0
#: In HTTP/2 and 3 a request can be answered without its body. granian writes "1" for HTTP/1.0.
_READS_BODIES = ("1", "1.0", "1.1")
_WITHOUT_BODY = ("GET", "HEAD")
#: What `Request(...)` ends in, without the call in between.
_new = tuple.__new__


def request_of(scope: Scope) -> Request:
    """The request of an HTTP scope, or the handshake of a WebSocket's."""
    headers = scope["headers"]
    if headers.__class__ is not list:
        headers = [*headers]

    by_name: dict[bytes, bytes] | None = None

    # ASGI promises names in lower case.
    def values(name: bytes) -> list[bytes]:
        nonlocal by_name
        if by_name is None:
            # Once for a request: one with a thousand headers must not cost more for each that is read.
            by_name = dict(headers)
        if name not in by_name:
            return [] if name else _sent_prefixes(headers, scope.get("root_path") or "")
        if len(by_name) == len(headers):
            # No header stands twice: the look-up of a dict is faster than a loop, even with the making of it.
            return [by_name[name]]
        return [value for key, value in headers if key == name]

    client = scope.get("client")
    path, inner_path = scope["path"], None
    root = scope.get("root_path")
    # A path that has the prefix once, at its beginning, is whole: nearly every path of a mounted app.
    if root and not (path.rfind(root) == 0 and path.removeprefix(root)[:1] == "/"):
        path, inner_path = _whole_path(path, root.rstrip("/"), headers)
    return _new(Request, (scope.get("method", "GET"), path, client[0] if client else None, values, inner_path))


def _whole_path(path: str, root: str, headers: list[tuple[bytes, bytes]]) -> tuple[str, str | None]:
    """The path with the prefix of what is mounted: by the specification it has it, and some servers leave it out.

    Frameworks cut the prefix in different ways, so the path without it matters where it has the prefix once more.
    """
    if path == root and _sent_prefixes(headers, root):
        # The client may have sent the whole path as a prefix.
        return path, "/"
    if path[:1] != "/":
        return f"{root}/{path}", path
    if path == root or path.startswith(f"{root}/"):
        inner = path[len(root) :]
        return path, inner if root and root in inner else None
    return root + path, path if root in path else None


def _sent_prefixes(headers: list[tuple[bytes, bytes]], root: str) -> list[bytes]:
    """The headers that are known to carry a prefix; and where there is a prefix, every header that names it.

    A middleware may take quotes off the value of such a header, so with one the prefix itself may be the client's.
    """
    prefix = root.strip(" \t/").encode("utf-8", "replace")
    sent = [value for name, value in headers if name in PREFIX_HEADERS or (prefix and value.strip(b" \t/") == prefix)]
    if sent and prefix:
        sent.append(prefix)
    return sent


async def discard(receive: Receive, max_bytes: int) -> None:
    """Receive up to `max_bytes` of a body that has not ended, for 2 seconds at most.

    If a body is left unread, a server closes the connection with a reset, and a proxy in front turns the answer into a
    502.
    """
    # On first use: a program that serves on trio may not need asyncio.
    import asyncio

    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        with trio.move_on_after(_MAX_DRAIN_S):
            await _received(receive, max_bytes)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_MAX_DRAIN_S):
            await _received(receive, max_bytes)


def sends_body(scope: Scope) -> bool:
    """Whether the request announces a body that its client sends without waiting for an answer.

    A client that sent ``Expect: 100-continue`` waits, and a server asks it for the body with the first `receive`.
    """
    # Almost no GET has a body, and refused ones are many: their headers are not looked at.
    if scope["method"] in _WITHOUT_BODY:
        return False
    if scope.get("http_version", "1.1") not in _READS_BODIES:
        return False
    by_name = dict(scope["headers"])
    announced = by_name.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in by_name
    return announced and b"100-continue" not in by_name.get(b"expect", b"").lower()


async def _received(receive: Receive, left: int) -> None:
    more = True
    while more and left > 0:
        message = await receive()
        # A disconnect has no more body either.
        left -= len(message.get("body", b""))
        more = message.get("more_body", False)


async def send_reply(reply: Reply, scope: Scope, send: Send, *, prefix: str = "http") -> None:
    """Send the whole of `reply`; to a HEAD its headers."""
    body = b"" if scope.get("method") == "HEAD" else reply.body
    await send({"type": f"{prefix}.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": f"{prefix}.response.body", "body": body})
