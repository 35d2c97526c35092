"""An ASGI app of what answers whole requests: ``Mount("/api/v1", AsgiApp(ManagementApi(...)))``. It needs no framework.

What answers may block, and does so in threads of its own; nobody waits for it without end. No body is read beyond its
bounds, in bytes and in time.
"""

import asyncio
import logging

from awx_ratelimit.adapters.asgi.scope import (
    MAX_DRAIN_BYTES,
    Receive,
    Scope,
    Send,
    discard,
    request_of,
    send_reply,
    sends_body,
)
from awx_ratelimit.adapters.full_requests import check_answer
from awx_ratelimit.core.validation import check_whole_number
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import Answer, Reply, WholeRequest
from awx_ratelimit.runtime.event_loops import ThreadPool, needs_asyncio_error, runs_asyncio

_log = logging.getLogger("awx_ratelimit")
_WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))


class AsgiApp:
    """Serves `answer`: HTTP alone.

    A body of more than `most_body_bytes` is a 413, one that takes longer than `body_timeout_s` a 408. At most `threads`
    requests are being answered at a time; others wait their turn. After `answer_timeout_s` a client is told that the
    store gives no answer (503): what has begun may still be carried out, what waited for its turn is not.
    Of a body that `answer` does not get, up to `max_drain_bytes` are received and discarded, because a proxy turns the
    answer to an unread upload into a 502.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        most_body_bytes: int = 65_536,
        body_timeout_s: float = 10.0,
        answer_timeout_s: float = 15.0,
        threads: int = 8,
        max_drain_bytes: int = MAX_DRAIN_BYTES,
    ) -> None:
        check_answer(answer, "AsgiApp")
        self._answer = answer
        self._most_body_bytes = most_body_bytes
        self._body_timeout_s = body_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._threads = ThreadPool(threads)
        check_whole_number(max_drain_bytes, "max_drain_bytes", minimum=0)
        self._max_drain_bytes = max_drain_bytes
        self._is_told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if scope["type"] != "http":
            raise ValueError(f"AsgiApp serves HTTP alone, not {scope['type']!r}")
        if not runs_asyncio():
            await send_reply(self._misplaced(), scope, send)
            return
        body = await self._body(scope, receive)
        if isinstance(body, bytes):
            body = await self._answered(WholeRequest(request_of(scope), scope.get("query_string", b""), body))
        if body is not None:
            await send_reply(body, scope, send)

    def _misplaced(self) -> Reply:
        """The answer where the threads have no event loop to come back to. The reason is logged once."""
        if not self._is_told:
            self._is_told = True
            _log.error("%s", needs_asyncio_error("AsgiApp"))
        return error_responses.failure("key_store_unavailable")

    async def _answered(self, whole: WholeRequest) -> Reply:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                return await self._threads.run(self._answer, whole)
        except TimeoutError:
            return error_responses.failure("key_store_unavailable")

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Reply | None:
        """The whole body, or what to answer without it; None where the client has left."""
        if scope["method"] in _WITHOUT_BODY:
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
            if len(body) > self._most_body_bytes:
                if more:
                    await discard(receive, self._max_drain_bytes)
                return error_responses.failure("request_too_large")
        return body
