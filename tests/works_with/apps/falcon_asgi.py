"""Falcon on ASGI."""

from collections.abc import AsyncIterator
from typing import Any

from falcon.asgi import App, Request, Response, SSEvent
from tests.works_with.limits import async_ticks, limited


class _Plain:
    async def on_get(self, _: Request, response: Response) -> None:
        response.text = "hello"


class _Stream:
    async def on_get(self, _: Request, response: Response) -> None:
        # Only server-sent events notice a client that hangs up.
        response.sse = _events()


async def _events() -> AsyncIterator[SSEvent]:
    async for piece in async_ticks():
        yield SSEvent(data=piece)


_falcon: Any = App()
_falcon.add_route("/health", _Plain())
_falcon.add_route("/plain", _Plain())
_falcon.add_route("/stream", _Stream())
app = limited(_falcon)
