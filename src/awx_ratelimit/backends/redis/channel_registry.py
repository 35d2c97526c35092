"""Which channels are open: one set for all threads, or one for each event loop, which ends with its loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Generic, TypeVar

from awx_ratelimit.backends.redis.loop_ends import at_end_of_loop
from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.session import Session
from awx_ratelimit.runtime.event_loops import needs_asyncio_error

_Channel = TypeVar("_Channel", bound=Any)


class ThreadChannels(Generic[_Channel]):
    """For threads: all of them share the channels."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channels: dict[Server | None, _Channel] = {}

    def _here(self) -> dict[Server | None, _Channel]:
        return self._channels

    @property
    def are_alone(self) -> bool:
        """Whether nothing else uses channels of the same session."""
        return True

    def _left(self) -> list[_Channel]:
        """Remove and return all channels."""
        lines, self._channels = self._channels, {}
        return list(lines.copy().values())


class LoopChannels(Generic[_Channel]):
    """For tasks: a connection belongs to the event loop that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing = threading.Lock()
        self._channels: dict[asyncio.AbstractEventLoop, dict[Server | None, _Channel]] = {}
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    def _here(self) -> dict[Server | None, _Channel]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(needs_asyncio_error("AsyncRedisBackend")) from None
        lines = self._channels.get(loop)
        return self._new(loop) if lines is None else lines

    def _new(self, loop: asyncio.AbstractEventLoop) -> dict[Server | None, _Channel]:
        # The loops of several threads may come at once: what one of them reads is replaced and never changed.
        with self._changing:
            closed = [known for known in self._channels if known.is_closed()]
            for line in [line for known in closed for line in self._channels[known].values()]:
                line.forget()
            here: dict[Server | None, _Channel] = {}
            kept = [known for known in self._channels if known not in closed]
            self._ends = {**{known: self._ends[known] for known in kept}, loop: at_end_of_loop(partial(_close, here))}
            self._channels = {**{known: self._channels[known] for known in kept}, loop: here}
        return here

    @property
    def are_alone(self) -> bool:
        """Whether no other event loop has channels."""
        here = asyncio.get_running_loop()
        return not any(loop is not here and not loop.is_closed() for loop in self._channels.copy())

    def _left(self) -> list[_Channel]:
        """Remove and return the channels of the running event loop."""
        with self._changing:
            lines = self._channels.copy()
            here = lines.pop(asyncio.get_running_loop(), {})
            self._channels = lines
        return list(here.copy().values())


async def _close(lines: dict[Server | None, Any]) -> None:
    for line in [*lines.values()]:
        await line.close()
