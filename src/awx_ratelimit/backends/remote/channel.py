"""Carries claims to the servers and decisions back.

A channel leads to one server. It has a connection for claims, which are sent in batches, and a connection for rare
calls. So a slow server delays only the claims of its own channel. If a server says that it did not run a claim, the
claim goes to another server. Nothing that a server may have decided is sent twice.

All threads share one set of channels; each event loop has its own. asyncio does not announce the end of a loop. It does
finish the async generators of a loop before it closes the loop: `asyncio.run`, `asyncio.Runner`, uvloop and the test
plugins all do. So a generator that was started in the loop closes the channels. If a loop is closed by hand without
that step, only the sockets can still be closed.
"""

import asyncio
import threading
import time
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

from awx_ratelimit.backends.remote.batching import TaskBatching
from awx_ratelimit.backends.remote.pending_claims import PendingClaim
from awx_ratelimit.backends.remote.replies import Call, Redirect, Reply
from awx_ratelimit.backends.remote.routing import REDIRECT_PAUSE_S, Server
from awx_ratelimit.backends.remote.sent import SentCalls, ignore
from awx_ratelimit.backends.remote.sent_claims import SentClaims
from awx_ratelimit.backends.remote.session import Session
from awx_ratelimit.core.budget import Record
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
            channels = self._channels.get(get_running_loop())
        except RuntimeError:
            raise RuntimeError(needs_asyncio_error(self._session.dialect.backend)) from None
        return self._add_loop() if channels is None else channels

    def _add_loop(self) -> dict[Server | None, _Channel]:
        loop = get_running_loop()
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
        current = get_running_loop()
        return not any(loop is not current and not loop.is_closed() for loop in self._channels.copy())

    def _remove_all(self) -> list[_Channel]:
        """Remove and return the channels of the running event loop."""
        with self._lock:
            remaining = self._channels.copy()
            channels = remaining.pop(get_running_loop(), {})
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


#: Selects the batching of a channel: for claims, or for other calls.
Selector: TypeAlias = Callable[[Any], Any]
claims: Selector = attrgetter("claims")
other_calls: Selector = attrgetter("other_calls")


class AsyncChannel:
    """A channel to one server."""

    def __init__(self, session: Session, server: Server) -> None:
        open_on_use = session.dialect.async_connection
        claims, others = self._connections = open_on_use(server), open_on_use(server)
        self.claims = TaskBatching(claims.start, partial(SentClaims, session, server), session.abandon)
        self.other_calls = TaskBatching(others.start, SentCalls, ignore)

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for connection in self._connections:
            await connection.close()

    def forget(self) -> None:
        """Close the sockets after the event loop has closed."""
        for connection in self._connections:
            connection.forget()


class AsyncChannels(LoopChannels[AsyncChannel]):
    """The channels to all servers."""

    def claim(self, claim: PendingClaim) -> Any:
        """The outcome of a claim. Raises BackendUnavailable if there is no reply."""
        channel = self._current().get(self._session.only_server)
        # A single server never redirects.
        return channel.claims.send(claim) if channel else self._send(claim[0], claims, claim)

    def call(self, record: Record, call: Call) -> Any:
        """The reply to any other call. Raises BackendUnavailable if there is none."""
        return self._send(record, other_calls, call)

    async def _send(self, record: Record, selected: Selector, item: PendingClaim | Call) -> Reply:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(record)
        if server is None:
            server = await asyncio.to_thread(self._session.find_server, record)
        reply = await selected(self._current().get(server) or await self._open(server)).send(item)
        return await self._follow(server, reply, selected, item, until_s) if isinstance(reply, Redirect) else reply

    async def _follow(
        self, server: Server, reply: Reply, selected: Selector, item: PendingClaim | Call, until_s: float
    ) -> Reply:
        pause_s = 0.0
        while isinstance(reply, Redirect) and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            server = reply.server or server
            channel = self._current().get(server) or await self._open(server)
            reply, pause_s = await selected(channel).send(item), REDIRECT_PAUSE_S
        return reply

    async def _open(self, server: Server) -> AsyncChannel:
        """A new channel. Closes the channels to servers that are gone."""
        channels = self._current()
        for gone in [known for known in channels.copy() if known and not self._session.route.serves(known)]:
            channel = channels.pop(gone, None)
            if channel is not None:
                await channel.close()
        return channels.setdefault(server, AsyncChannel(self._session, server))

    async def close(self) -> None:
        """Close these channels; the next call opens new ones."""
        for channel in self._remove_all():
            await channel.close()
