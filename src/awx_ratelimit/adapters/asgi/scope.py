"""Reads a Request from an ASGI scope, discards bodies, and sends a Reply."""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from awx_ratelimit.adapters.options import MAX_DRAIN_S
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Reply, Request
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS, kept_slashes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: In HTTP/2 and 3 a server can answer without reading the body. granian reports HTTP/1.0 as "1".
_VERSIONS_TO_DRAIN = ("1", "1.0", "1.1")
_RARELY_WITH_BODY = ("GET", "HEAD")
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


def request_of(scope: Scope) -> Request:
    """The request of an HTTP scope, or the handshake of a WebSocket scope."""
    headers = scope["headers"]
    if headers.__class__ is not list:
        headers = [*headers]

    by_name: dict[bytes, bytes] | None = None

    # ASGI guarantees names in lower case.
    def values(name: bytes) -> list[bytes]:
        nonlocal by_name
        if by_name is None:
            # Built once per request, so reading several of a thousand headers stays cheap.
            by_name = dict(headers)
        if name not in by_name:
            return [] if name else _sent_prefixes(headers, scope.get("root_path") or "")
        if len(by_name) == len(headers):
            # No name occurs twice. Building a dict and looking up is faster than a loop.
            return [by_name[name]]
        return [value for key, value in headers if key == name]

    client = scope.get("client")
    path, inner_path = scope["path"], None
    root = scope.get("root_path")
    if root and not _is_whole(path, root):
        path, inner_path = _whole_path(path, root.rstrip("/"), headers)
    raw = scope.get("raw_path")
    if raw and (kept := kept_slashes(raw, path)) is not None:
        inner_path = kept
        if root and not _is_whole(kept, root):
            whole, inner = _whole_path(kept, root.rstrip("/"), headers)
            inner_path = whole if inner is None else inner
    return _new(Request, (scope.get("method", "GET"), path, client[0] if client else None, values, inner_path, scope))


def begun(scope: Scope, gate: AsyncGate) -> Any:
    """What `gate.begin` returns for a scope. None also if more than its method, its path and its only key matters."""
    headers, path = scope["headers"], scope["path"]
    root = scope.get("root_path")
    if headers.__class__ is not list or (root and not _is_whole(path, root)):
        return None
    raw = scope.get("raw_path")
    # Nearly always nothing in the path was escaped. Comparing the lengths is faster than searching for an escape.
    if raw and len(raw) != len(path) and kept_slashes(raw, path) is not None:
        return None
    sent, key_headers = None, gate.key_headers
    for name, value in headers:
        if name in key_headers:
            if sent is not None:
                return None
            sent, key = name, value
    if sent is None:
        return None
    return gate.begin(scope.get("method", "GET"), path, sent, key, scope, request_of)


def _is_whole(path: str, root: str) -> bool:
    """Whether the path has the prefix of its app, once. Then an app can see no other path. So it is nearly always."""
    return path.rfind(root) == 0 and path.removeprefix(root)[:1] == "/"


def _whole_path(path: str, root: str, headers: list[tuple[bytes, bytes]]) -> tuple[str, str | None]:
    """The path with the mount prefix, and the inner path if it matters.

    By the specification the path has the prefix, but some servers leave it out. Frameworks remove the prefix in
    different ways, so the inner path matters if it contains the prefix again.
    """
    if path == root and _sent_prefixes(headers, root):
        # The client may have sent the whole path as a prefix in a header.
        return path, "/"
    if path[:1] != "/":
        return f"{root}/{path}", path
    if path == root or path.startswith(f"{root}/"):
        inner = path[len(root) :]
        return path, inner if root and root in inner else None
    return root + path, path if root in path else None


def _sent_prefixes(headers: list[tuple[bytes, bytes]], root: str) -> list[bytes]:
    """The values of headers that may carry a prefix: known ones, and any header whose value is the mount prefix.

    If there is one, the mount prefix is added, because a middleware may have removed quotes from the header's value.
    """
    prefix = root.strip(" \t/").encode("utf-8", "replace")
    sent = [value for name, value in headers if name in PREFIX_HEADERS or (prefix and value.strip(b" \t/") == prefix)]
    if sent and prefix:
        sent.append(prefix)
    return sent


async def discard(receive: Receive, max_bytes: int) -> None:
    """Receive and discard up to `max_bytes` of the body, for at most 2 seconds. See MAX_DRAIN_BYTES."""
    # Imported here, because a program on trio may not need asyncio.
    import asyncio

    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        with trio.move_on_after(MAX_DRAIN_S):
            await _discard(receive, max_bytes)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(MAX_DRAIN_S):
            await _discard(receive, max_bytes)


def sends_body(scope: Scope) -> bool:
    """Whether the client sends a body without waiting for a response.

    A client that sent ``Expect: 100-continue`` waits; the first `receive` would make the server ask for the body.
    """
    # Hardly any GET has a body, so the headers of refused ones are not searched.
    if scope["method"] in _RARELY_WITH_BODY:
        return False
    if scope.get("http_version", "1.1") not in _VERSIONS_TO_DRAIN:
        return False
    by_name = dict(scope["headers"])
    announced = by_name.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in by_name
    return announced and b"100-continue" not in by_name.get(b"expect", b"").lower()


async def _discard(receive: Receive, left_bytes: int) -> None:
    more = True
    while more and left_bytes > 0:
        message = await receive()
        # A disconnect has neither a body nor `more_body`.
        left_bytes -= len(message.get("body", b""))
        more = message.get("more_body", False)


async def send_reply(reply: Reply, scope: Scope, send: Send, *, prefix: str = "http") -> None:
    """Send `reply`; to a HEAD request only its headers."""
    body = b"" if scope.get("method") == "HEAD" else reply.body
    await send({"type": f"{prefix}.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": f"{prefix}.response.body", "body": body})
