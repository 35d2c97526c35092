"""The start and the end of an ASGI app: the check of the event loop, and the flush before the server exits.

uvicorn exits by the signal that it received, so `atexit` functions do not run there. It does wait for the end of the
lifespan.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from awx_ratelimit.adapters.asgi.scope import Message, Receive, Scope, Send
from awx_ratelimit.runtime.event_loops import find_asyncio_error, runs_asyncio

_log = logging.getLogger("awx_ratelimit")
_ENDS = frozenset(("lifespan.shutdown.complete", "lifespan.shutdown.failed"))


class Lifespan:
    """Runs one lifespan of an app, and awaits `flush` at its end. `flush` must neither raise nor wait for long."""

    def __init__(self, receive: Receive, send: Send, flush: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._flush = flush
        self._app_listens = False

    async def run(self, app: Callable[[Any, Any, Any], Awaitable[None]], scope: Scope) -> None:
        """Run it. An app that does not support lifespans raises or returns before it receives anything."""
        try:
            await app(scope, self._app_receive, self._app_send)
        except Exception:
            if self._app_listens:
                raise
        if not self._app_listens:
            await self._receive()
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._app_send({"type": "lifespan.shutdown.complete"})

    async def _app_receive(self) -> Message:
        self._app_listens = True
        return await self._receive()

    async def _app_send(self, message: Message) -> None:
        if message["type"] in _ENDS:
            await self._flush()
        await self._send(message)


def event_loop_error(*parts: Any) -> str:
    """Why `parts` do not work on the running event loop, logged too; empty if they do."""
    error = "" if runs_asyncio() else find_asyncio_error(*parts)
    if error:
        _log.error("%s", error)
    return error


async def fail_startup(message: str, receive: Receive, send: Send) -> None:
    """Answer the lifespan of an app so that its server does not start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": message})
