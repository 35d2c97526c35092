"""`AsgiApp`: serves a handler as an ASGI app, for example ``Mount("/api/v1", AsgiApp(ManagementApi(...)))``.

Handlers may block, so each runs in a thread, with a timeout. Bodies are bounded in bytes and in time.
"""

import asyncio
import logging

from awx_ratelimit.adapters.asgi.scope import (
    Receive,
    Scope,
    Send,
    discard,
    request_of,
    send_reply,
    sends_body,
)
from awx_ratelimit.adapters.options import (
    MAX_BODY_BYTES,
    MAX_DRAIN_BYTES,
    METHODS_WITHOUT_BODY,
    check_handler,
    checked_drain_bytes,
)
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import FullRequest, Handler, Reply
from awx_ratelimit.runtime.event_loops import ThreadPool, needs_asyncio_error, runs_asyncio

_log = logging.getLogger("awx_ratelimit")


class AsgiApp:
    """Serves `handler` over HTTP. WebSockets are closed.

    A body of more than `max_body_bytes` gets a 413; one that takes longer than `body_timeout_s` a 408. At most
    `threads` requests run at a time; the others wait. After `answer_timeout_s` the client gets a 503. A handler that
    has started may still finish after that; one that was waiting does not start.

    If the handler does not need the body, up to `max_drain_bytes` of it are received and discarded.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_timeout_s: float = 10.0,
        answer_timeout_s: float = 15.0,
        threads: int = 8,
        max_drain_bytes: int = MAX_DRAIN_BYTES,
    ) -> None:
        check_handler(handler, "AsgiApp")
        self._handler = handler
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._threads = ThreadPool(threads)
        self._max_drain_bytes = checked_drain_bytes(max_drain_bytes)
        self._wrong_loop_logged = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if scope["type"] != "http":
            raise ValueError(f"AsgiApp: expected an HTTP scope, got {scope['type']!r}")
        if not runs_asyncio():
            await send_reply(self._wrong_loop_reply(), scope, send)
            return
        body = await self._body(scope, receive)
        if isinstance(body, bytes):
            body = await self._reply(FullRequest(request_of(scope), scope.get("query_string", b""), body))
        if body is not None:
            await send_reply(body, scope, send)

    def _wrong_loop_reply(self) -> Reply:
        """The 503 on an event loop other than asyncio's, where the threads do not work. The reason is logged once."""
        if not self._wrong_loop_logged:
            self._wrong_loop_logged = True
            _log.error("%s", needs_asyncio_error("AsgiApp"))
        return error_responses.failure("key_store_unavailable")

    async def _reply(self, request: FullRequest) -> Reply:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                return await self._threads.run(self._handler, request)
        except TimeoutError:
            return error_responses.failure("key_store_unavailable")

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Reply | None:
        """The whole body, or the error reply to send; None if the client has disconnected."""
        if scope["method"] in METHODS_WITHOUT_BODY:
            if sends_body(scope):
                await discard(receive, self._max_drain_bytes)
            return b""
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await self._received(receive)
        except TimeoutError:
            return error_responses.failure("request_timeout")

    async def _received(self, receive: Receive) -> bytes | Reply | None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_body_bytes:
                if more:
                    await discard(receive, self._max_drain_bytes)
                return error_responses.failure("request_too_large")
        return body
