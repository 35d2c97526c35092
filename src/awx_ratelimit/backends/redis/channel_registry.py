"""The channels of a backend: shared by all threads, or one set for each event loop.

asyncio does not announce the end of a loop. It does finish the async generators of a loop before it closes the loop:
`asyncio.run`, `asyncio.Runner`, uvloop and the test plugins all do. So a generator that was started in the loop closes
the channels. If a loop is closed by hand without that step, only the sockets can still be closed.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Generic, TypeVar

from awx_ratelimit.backends.redis.server import Server
from awx_ratelimit.backends.redis.session import Session
from awx_ratelimit.runtime.event_loops import needs_asyncio_error

_Channel = TypeVar("_Channel", bound=Any)


class ThreadChannels(Generic[_Channel]):
    """The channels of all threads, by server."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channels: dict[Server | None, _Channel] = {}

    def _current(self) -> dict[Server | None, _Channel]:
        return self._channels

    @property
    def are_alone(self) -> bool:
        """Whether nothing else uses channels of the same session."""
        return True

    def _remove_all(self) -> list[_Channel]:
        channels, self._channels = self._channels, {}
        return list(channels.copy().values())


class LoopChannels(Generic[_Channel]):
    """The channels of tasks, by event loop and server: a connection belongs to the loop that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._channels: dict[asyncio.AbstractEventLoop, dict[Server | None, _Channel]] = {}
        self._closers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    def _current(self) -> dict[Server | None, _Channel]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(needs_asyncio_error("AsyncRedisBackend")) from None
        channels = self._channels.get(loop)
        return self._add_loop(loop) if channels is None else channels

    def _add_loop(self, loop: asyncio.AbstractEventLoop) -> dict[Server | None, _Channel]:
        # Loops of other threads read these dicts without the lock. So dicts are replaced and never changed.
        with self._lock:
            closed = [known for known in self._channels if known.is_closed()]
            for channel in [channel for known in closed for channel in self._channels[known].values()]:
                channel.forget()
            channels: dict[Server | None, _Channel] = {}
            kept = [known for known in self._channels if known not in closed]
            self._closers = {**{known: self._closers[known] for known in kept}, loop: _close_with_loop(channels)}
            self._channels = {**{known: self._channels[known] for known in kept}, loop: channels}
        return channels

    @property
    def are_alone(self) -> bool:
        """Whether no other event loop has channels."""
        current = asyncio.get_running_loop()
        return not any(loop is not current and not loop.is_closed() for loop in self._channels.copy())

    def _remove_all(self) -> list[_Channel]:
        """Remove and return the channels of the running event loop."""
        with self._lock:
            remaining = self._channels.copy()
            channels = remaining.pop(asyncio.get_running_loop(), {})
            self._channels = remaining
        return list(channels.copy().values())


def _close_with_loop(channels: dict[Server | None, Any]) -> AsyncGenerator[None, None]:
    """Close `channels` when the running event loop ends, or when the returned generator is collected."""
    closer = _closer(channels)
    # The generator suspends at once, so starting it needs no turn of the loop.
    with suppress(StopIteration):
        closer.__anext__().send(None)
    return closer


async def _closer(channels: dict[Server | None, Any]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for channel in [*channels.values()]:
            await channel.close()
