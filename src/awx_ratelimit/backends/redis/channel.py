"""The way of claims to the servers and back.

A channel leads to one server: a connection for claims, which are sent in batches, and one for rare calls. A server that
does not answer delays only the claims of its own channel. If a server says that it did not run a claim, the claim goes
to another one. Nothing that may have been decided is sent twice.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from awx_ratelimit.backends.redis.channel_registry import LoopChannels
from awx_ratelimit.backends.redis.codec import Call, PendingClaim
from awx_ratelimit.backends.redis.connection import AsyncConnection, Reply
from awx_ratelimit.backends.redis.fan_out import PAUSE_S
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.backends.redis.session import Outcome, Session
from awx_ratelimit.backends.redis.task_batching import TaskBatching

#: Which of a line's two ways is taken.
Selector: TypeAlias = Callable[[Any], Any]
claims: Selector = attrgetter("claims")
others: Selector = attrgetter("others")


class AsyncChannel:
    """A channel to one server."""

    def __init__(self, session: Session, server: Server) -> None:
        self._session = session
        self._server = server
        self._claim_connection = AsyncConnection(server)
        self._call_connection = AsyncConnection(server)
        #: Claims, and what became of each.
        self.claims = TaskBatching(self._decide, session.abandon, session.unanswered)
        #: Any other calls.
        self.others = TaskBatching(self._call_connection.run, nobody, nobody)

    async def _decide(self, batch: Sequence[PendingClaim]) -> list[Outcome]:
        parts = self._session.acquire(batch, self._server)
        answers = await self._claim_connection.run([part.call for part in parts])
        self._server.home.answered_calls += 1
        return self._session.decisions(batch, parts, answers)

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        await self._claim_connection.close()
        await self._call_connection.close()

    def forget(self) -> None:
        """The event loop is closed: close what it has left open."""
        self._claim_connection.forget()
        self._call_connection.forget()


def nobody(_: Call | Reply) -> None:
    """Nothing is given back of what no lease came with."""


class AsyncChannels(LoopChannels[AsyncChannel]):
    """The channels to all servers."""

    def claim(self, asked: PendingClaim) -> Any:
        """What became of a claim. Raises BackendUnavailable where it had no answer."""
        line = self._here().get(self._session.only)
        # One server sends nothing on.
        return line.claims.ask(asked) if line else self._sent(asked[0], claims, asked)

    def call(self, subject: str, call: Call) -> Any:
        """What any other call was answered. Raises BackendUnavailable where it had no answer."""
        return self._sent(subject, others, call)

    async def _sent(self, subject: str, of_line: Selector, item: PendingClaim | Call) -> Reply:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(subject)
        if server is None:
            server = await asyncio.to_thread(self._session.found, subject)
        answer = await of_line(self._here().get(server) or await self._opened(server)).ask(item)
        return await self._sent_on(answer, of_line, item, until_s) if isinstance(answer, Redirect) else answer

    async def _sent_on(self, answer: Reply, of_line: Selector, item: PendingClaim | Call, until_s: float) -> Reply:
        pause_s = 0.0
        while isinstance(answer, Redirect) and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            line = self._here().get(answer.server) or await self._opened(answer.server)
            answer, pause_s = await of_line(line).ask(item), PAUSE_S
        return answer

    async def _opened(self, server: Server) -> AsyncChannel:
        """A new line, in place of those to servers that are gone."""
        lines = self._here()
        for gone in [known for known in lines.copy() if known and not self._session.route.serves(known)]:
            line = lines.pop(gone, None)
            if line is not None:
                await line.close()
        return lines.setdefault(server, AsyncChannel(self._session, server))

    async def close(self) -> None:
        """Close these channels; the next call opens them again."""
        for line in self._left():
            await line.close()
