"""How claims get from one event loop, or from the threads of one process, to the server and back.

Two twins over one session: a connection for claims, which are committed in groups, and one for what is rare.
"""

import asyncio
from collections.abc import Sequence
from threading import Lock

from awx_ratelimit.backends._coalesce_tasks import TaskCommit
from awx_ratelimit.backends._coalesce_threads import ThreadCommit
from awx_ratelimit.backends._redis_codec import Asked, Call
from awx_ratelimit.backends._redis_link import Answer, AsyncLink, Link
from awx_ratelimit.backends._redis_session import Session
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.errors import BackendUnavailable


class Line:
    """For threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._link = Link(session.server)
        self._aside = Link(session.server)
        #: Claims, answered by a Decision, or by the error of their own key.
        self.claims = ThreadCommit(
            self._decide, session.abandon, session.unanswered, patience_s=session.server.patience_s
        )
        #: Any other calls.
        self.others = ThreadCommit(self._aside.run, _nobody, _nobody, patience_s=session.server.patience_s)

    def _decide(self, batch: Sequence[Asked]) -> list[Decision | BackendUnavailable]:
        call, released = self._session.acquire(batch)
        (answer,) = self._link.run([call])
        return self._session.decisions(batch, released, answer)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        self._link.close()
        self._aside.close()


class AsyncLine:
    """For the tasks of one event loop."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._link = AsyncLink(session.server)
        self._aside = AsyncLink(session.server)
        #: See Line.
        self.claims = TaskCommit(self._decide, session.abandon, session.unanswered)
        #: See Line.
        self.others = TaskCommit(self._aside.run, _nobody, _nobody)

    async def _decide(self, batch: Sequence[Asked]) -> list[Decision | BackendUnavailable]:
        call, released = self._session.acquire(batch)
        (answer,) = await self._link.run([call])
        return self._session.decisions(batch, released, answer)

    async def close(self) -> None:
        """See Line."""
        await self._link.close()
        await self._aside.close()


class Lines:
    """One line for all threads."""

    def __init__(self, session: Session) -> None:
        self._line = Line(session)

    def here(self) -> Line:
        """The line of the running thread."""
        return self._line


class AsyncLines:
    """A line for each event loop that is running: a connection belongs to the loop that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing = Lock()
        self._lines: dict[asyncio.AbstractEventLoop, AsyncLine] = {}

    def here(self) -> AsyncLine:
        """The line of the running loop."""
        loop = asyncio.get_running_loop()
        return self._lines.get(loop) or self._new(loop)

    def _new(self, loop: asyncio.AbstractEventLoop) -> AsyncLine:
        # The loops of several threads may come at once, and what one of them looks at is never changed.
        with self._changing:
            lines = {known: line for known, line in self._lines.items() if not known.is_closed()}
            line = lines[loop] = AsyncLine(self._session)
            self._lines = lines
        return line


def _nobody(_: Call | Answer) -> None:
    """Nothing is given back of what no lease came with."""
