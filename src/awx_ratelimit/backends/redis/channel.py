"""How claims get from one event loop, or from the threads of one process, to the servers and back.

A line leads to one server: a connection for claims, which are committed in groups, and one for what is rare. A server
that does not answer holds up the claims of its own line alone. Where a server says that it did not run a claim, that
goes on to another: what may have been decided is never sent twice. Two twins of each, over one session.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias

from awx_ratelimit.backends.redis.codec import Asked, Call
from awx_ratelimit.backends.redis.connection import Answer, AsyncLink, Link
from awx_ratelimit.backends.redis.fan_out import PAUSE_S
from awx_ratelimit.backends.redis.loop_ends import at_end_of_loop
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.backends.redis.session import Outcome, Session
from awx_ratelimit.backends.redis.task_batching import TaskCommit
from awx_ratelimit.backends.redis.thread_batching import ThreadCommit
from awx_ratelimit.runtime.event_loops import wrong_loop

#: Which of a line's two ways is taken.
OfLine: TypeAlias = Callable[[Any], Any]
_claims: OfLine = attrgetter("claims")
_others: OfLine = attrgetter("others")


class Line:
    """For threads."""

    def __init__(self, session: Session, server: Server) -> None:
        self._session = session
        self._server = server
        self._link = Link(server)
        self._aside = Link(server)
        #: Claims, and what became of each.
        self.claims = ThreadCommit(self._decide, session.abandon, session.unanswered, timeout_s=server.timeout_s)
        #: Any other calls.
        self.others = ThreadCommit(self._aside.run, _nobody, _nobody, timeout_s=server.timeout_s)

    def _decide(self, batch: Sequence[Asked], until_s: float) -> list[Outcome]:
        parts = self._session.acquire(batch, self._server)
        answers = self._link.run([part.call for part in parts], until_s)
        self._server.home.answered_calls += 1
        return self._session.decisions(batch, parts, answers)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        self._link.close()
        self._aside.close()


class AsyncLine:
    """For the tasks of one event loop."""

    def __init__(self, session: Session, server: Server) -> None:
        self._session = session
        self._server = server
        self._link = AsyncLink(server)
        self._aside = AsyncLink(server)
        #: See Line.
        self.claims = TaskCommit(self._decide, session.abandon, session.unanswered)
        #: See Line.
        self.others = TaskCommit(self._aside.run, _nobody, _nobody)

    async def _decide(self, batch: Sequence[Asked]) -> list[Outcome]:
        parts = self._session.acquire(batch, self._server)
        answers = await self._link.run([part.call for part in parts])
        self._server.home.answered_calls += 1
        return self._session.decisions(batch, parts, answers)

    async def close(self) -> None:
        """See Line."""
        await self._link.close()
        await self._aside.close()

    def forget(self) -> None:
        """The event loop is closed: close what it has left open."""
        self._link.forget()
        self._aside.forget()


def _nobody(_: Call | Answer) -> None:
    """Nothing is given back of what no lease came with."""


class Lines:
    """For threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines: dict[Server | None, Line] = {}

    def claim(self, asked: Asked) -> Any:
        """What became of a claim. Raises BackendUnavailable where it had no answer."""
        line = self._here().get(self._session.only)
        # One server sends nothing on.
        return line.claims.ask(asked) if line else self._sent(asked[0], _claims, asked)

    def call(self, subject: str, call: Call) -> Any:
        """What any other call was answered. Raises BackendUnavailable where it had no answer."""
        return self._sent(subject, _others, call)

    def _sent(self, subject: str, of_line: OfLine, item: Asked | Call) -> Answer:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(subject)
        if server is None:
            server = self._session.found(subject)
        answer = of_line(self._here().get(server) or self._opened(server)).ask(item, until_s)
        return self._sent_on(answer, of_line, item, until_s) if isinstance(answer, Redirect) else answer

    def _sent_on(self, answer: Answer, of_line: OfLine, item: Asked | Call, until_s: float) -> Answer:
        pause_s = 0.0
        while isinstance(answer, Redirect) and time.monotonic() < until_s:
            time.sleep(pause_s)
            line = self._here().get(answer.server) or self._opened(answer.server)
            answer, pause_s = of_line(line).ask(item, until_s), PAUSE_S
        return answer

    def _opened(self, server: Server) -> Line:
        """A new line, in place of those to servers that are gone."""
        lines = self._here()
        for gone in [known for known in lines.copy() if known and not self._session.route.serves(known)]:
            line = lines.pop(gone, None)
            if line is not None:
                line.close()
        return lines.setdefault(server, Line(self._session, server))

    def _here(self) -> dict[Server | None, Line]:
        return self._lines

    @property
    def are_alone(self) -> bool:
        """Whether nothing else has lines of the same session."""
        return True

    def close(self) -> None:
        """Close every line; the next call opens it again."""
        for line in self._left():
            line.close()

    def _left(self) -> list[Line]:
        """The lines so far, which are used no more."""
        lines, self._lines = self._lines, {}
        return list(lines.copy().values())


async def _close(lines: dict[Server | None, AsyncLine]) -> None:
    for line in [*lines.values()]:
        await line.close()


class AsyncLines:
    """For the tasks of event loops: a connection belongs to the loop that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing = threading.Lock()
        self._lines: dict[asyncio.AbstractEventLoop, dict[Server | None, AsyncLine]] = {}
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    def claim(self, asked: Asked) -> Any:
        """See Lines."""
        line = self._here().get(self._session.only)
        # One server sends nothing on.
        return line.claims.ask(asked) if line else self._sent(asked[0], _claims, asked)

    def call(self, subject: str, call: Call) -> Any:
        """See Lines."""
        return self._sent(subject, _others, call)

    async def _sent(self, subject: str, of_line: OfLine, item: Asked | Call) -> Answer:
        until_s = time.monotonic() + self._session.route.timeout_s
        server = self._session.home(subject)
        if server is None:
            server = await asyncio.to_thread(self._session.found, subject)
        answer = await of_line(self._here().get(server) or await self._opened(server)).ask(item)
        return await self._sent_on(answer, of_line, item, until_s) if isinstance(answer, Redirect) else answer

    async def _sent_on(self, answer: Answer, of_line: OfLine, item: Asked | Call, until_s: float) -> Answer:
        pause_s = 0.0
        while isinstance(answer, Redirect) and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            line = self._here().get(answer.server) or await self._opened(answer.server)
            answer, pause_s = await of_line(line).ask(item), PAUSE_S
        return answer

    async def _opened(self, server: Server) -> AsyncLine:
        """See Lines."""
        lines = self._here()
        for gone in [known for known in lines.copy() if known and not self._session.route.serves(known)]:
            line = lines.pop(gone, None)
            if line is not None:
                await line.close()
        return lines.setdefault(server, AsyncLine(self._session, server))

    def _here(self) -> dict[Server | None, AsyncLine]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(wrong_loop("AsyncRedisBackend")) from None
        lines = self._lines.get(loop)
        return self._new(loop) if lines is None else lines

    def _new(self, loop: asyncio.AbstractEventLoop) -> dict[Server | None, AsyncLine]:
        # The loops of several threads may come at once, and what one of them looks at is never changed.
        with self._changing:
            closed = [known for known in self._lines if known.is_closed()]
            for line in [line for known in closed for line in self._lines[known].values()]:
                line.forget()
            here: dict[Server | None, AsyncLine] = {}
            kept = [known for known in self._lines if known not in closed]
            self._ends = {**{known: self._ends[known] for known in kept}, loop: at_end_of_loop(partial(_close, here))}
            self._lines = {**{known: self._lines[known] for known in kept}, loop: here}
        return here

    @property
    def are_alone(self) -> bool:
        """Whether no other event loop has lines."""
        here = asyncio.get_running_loop()
        return not any(loop is not here and not loop.is_closed() for loop in self._lines.copy())

    async def close(self) -> None:
        """Close every line of the running loop; the next call opens it again."""
        for line in self._left():
            await line.close()

    def _left(self) -> list[AsyncLine]:
        """The lines of the running loop so far, which are used no more."""
        with self._changing:
            lines = self._lines.copy()
            here = lines.pop(asyncio.get_running_loop(), {})
            self._lines = lines
        return list(here.copy().values())
