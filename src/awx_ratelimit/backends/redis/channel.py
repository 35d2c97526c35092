"""Carries claims to the servers and decisions back.

A channel leads to one server. It has a connection for claims, which are sent in batches, and a connection for rare
calls. So a slow server delays only the claims of its own channel. If a server says that it did not run a claim, the
claim goes to another server. Nothing that a server may have decided is sent twice.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from awx_ratelimit.backends.redis.batching import TaskBatching
from awx_ratelimit.backends.redis.channel_registry import LoopChannels
from awx_ratelimit.backends.redis.codec import PendingClaim
from awx_ratelimit.backends.redis.connection import AsyncConnection, Reply
from awx_ratelimit.backends.redis.fan_out import REDIRECT_PAUSE_S
from awx_ratelimit.backends.redis.scripts import Call
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.backends.redis.session import Outcome, Session

#: Selects the batching of a channel: for claims, or for other calls.
Selector: TypeAlias = Callable[[Any], Any]
claims: Selector = attrgetter("claims")
other_calls: Selector = attrgetter("other_calls")


class AsyncChannel:
    """A channel to one server."""

    def __init__(self, session: Session, server: Server) -> None:
        self._session = session
        self._server = server
        self._claim_connection = AsyncConnection(server)
        self._call_connection = AsyncConnection(server)
        self.claims = TaskBatching(self._decide, session.abandon, session.release_unanswered)
        self.other_calls = TaskBatching(self._call_connection.run, ignore, ignore)

    async def _decide(self, batch: Sequence[PendingClaim]) -> list[Outcome]:
        calls = self._session.batch_calls(batch, self._server)
        replies = await self._claim_connection.run([each.call for each in calls])
        self._server.home.answered_calls += 1
        return self._session.outcomes(batch, calls, replies)

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._claim_connection.close()
        await self._call_connection.close()

    def forget(self) -> None:
        """Close the sockets after the event loop has closed."""
        self._claim_connection.forget()
        self._call_connection.forget()


def ignore(_: Call | Reply) -> None:
    """Other calls take no leases, so there is nothing to give back."""


class AsyncChannels(LoopChannels[AsyncChannel]):
    """The channels to all servers."""

    def claim(self, claim: PendingClaim) -> Any:
        """The outcome of a claim. Raises BackendUnavailable if there is no reply."""
        channel = self._current().get(self._session.only_server)
        # A single server never redirects.
        return channel.claims.send(claim) if channel else self._send(claim[0], claims, claim)

    def call(self, subject: str, call: Call) -> Any:
        """The reply to any other call. Raises BackendUnavailable if there is none."""
        return self._send(subject, other_calls, call)

    async def _send(self, subject: str, selected: Selector, item: PendingClaim | Call) -> Reply:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(subject)
        if server is None:
            server = await asyncio.to_thread(self._session.find_server, subject)
        reply = await selected(self._current().get(server) or await self._open(server)).send(item)
        return await self._follow(reply, selected, item, until_s) if isinstance(reply, Redirect) else reply

    async def _follow(self, reply: Reply, selected: Selector, item: PendingClaim | Call, until_s: float) -> Reply:
        pause_s = 0.0
        while isinstance(reply, Redirect) and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            channel = self._current().get(reply.server) or await self._open(reply.server)
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
