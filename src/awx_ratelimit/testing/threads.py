"""A synchronous backend that waits, for the kits, which are written once, as async tests."""

import asyncio
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from awx_ratelimit.backends.base import Backend, fits_event_loop
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan


class InThreads:
    """An async backend around a synchronous one that waits."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.release = backend.release

    def __getattr__(self, verb: str) -> Any:
        return partial(asyncio.to_thread, getattr(self._backend, verb))

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        return await asyncio.to_thread(self._backend.acquire, subject, plan, cost)


def awaited(backend: Any) -> Any:
    """`backend`, so that async code can await it: one that would block the event loop is called in threads."""
    synchronous = isinstance(backend, Backend) and not iscoroutinefunction(backend.acquire)
    waits = synchronous and not fits_event_loop(backend)
    return InThreads(backend) if waits else backend
