"""The lifespan of an ASGI app: at its end, what waits to be sent is sent before the server may end the process.

uvicorn ends by the signal that it received, so no `atexit` runs there. It waits for the end of the lifespan.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from awx_ratelimit.adapters.asgi.scope import Message, Receive, Scope, Send

_ENDS = frozenset(("lifespan.shutdown.complete", "lifespan.shutdown.failed"))


class Lifespan:
    """Runs one lifespan of an app. `flush` is awaited at its end; it raises nothing and bounds its own waiting."""

    def __init__(self, receive: Receive, send: Send, flush: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._flush = flush
        self._app_listens = False

    async def run(self, app: Callable[[Any, Any, Any], Awaitable[None]], scope: Scope) -> None:
        """Run it, also for an app that knows no lifespan: such an app raises or returns without listening."""
        try:
            await app(scope, self._received, self._sent)
        except Exception:
            if self._app_listens:
                raise
        if not self._app_listens:
            await self._receive()
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._sent({"type": "lifespan.shutdown.complete"})

    async def _received(self) -> Message:
        self._app_listens = True
        return await self._receive()

    async def _sent(self, message: Message) -> None:
        if message["type"] in _ENDS:
            await self._flush()
        await self._send(message)
