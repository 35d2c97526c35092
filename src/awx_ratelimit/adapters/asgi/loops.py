"""A gate that is served on an event loop on which its parts do not work: it fails the start, or every request."""

import logging
from typing import Any

from awx_ratelimit.adapters.asgi.scope import Receive, Send
from awx_ratelimit.runtime.event_loops import find_asyncio_error, runs_asyncio

_log = logging.getLogger("awx_ratelimit")


def wrong_for(*parts: Any) -> str:
    """What is wrong with the running event loop for `parts`, logged too; empty if nothing is."""
    wrong = "" if runs_asyncio() else find_asyncio_error(*parts)
    if wrong:
        _log.error("%s", wrong)
    return wrong


async def fail_start(why: str, receive: Receive, send: Send) -> None:
    """Answer the lifespan of an app, so that its server does not start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": why})
