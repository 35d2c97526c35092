"""Which event loop runs, and what to say of a part that needs another one. No event loop is imported for that."""

import sys
from typing import Any


def runs_asyncio() -> bool:
    """Whether the code that calls this runs in an asyncio event loop."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001  # without an exception


def misplaced(*parts: Any) -> str:
    """What to say of the first of `parts`, or of the backends inside them, that needs asyncio; empty without one."""
    for part in parts:
        inner = part
        while inner is not None:
            if getattr(inner, "needs_asyncio", False):
                return wrong_loop(type(inner).__name__)
            inner = getattr(inner, "backend", None)
    return ""


def wrong_loop(part: str) -> str:
    """The error for a part that needs asyncio, where something else runs."""
    trio = sys.modules.get("trio")
    running = "trio" if trio is not None and trio.lowlevel.in_trio_run() else "no event loop of asyncio"
    return (
        f"{part} needs asyncio, and this app runs on {running}: serve it on asyncio, "
        "or use a memory:// or host:// backend and StaticKeys"
    )
