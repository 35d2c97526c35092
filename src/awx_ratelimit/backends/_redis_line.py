"""How claims get from one event loop, or from the threads of one process, to one server and back.

Two twins over one session: a connection for claims, which are committed in groups, and one for what is rare. A server
that does not answer holds up the claims of its own line alone.
"""

from collections.abc import Sequence

from awx_ratelimit.backends._coalesce_tasks import TaskCommit
from awx_ratelimit.backends._coalesce_threads import ThreadCommit
from awx_ratelimit.backends._redis_codec import Asked, Call
from awx_ratelimit.backends._redis_link import Answer, AsyncLink, Link
from awx_ratelimit.backends._redis_server import Server
from awx_ratelimit.backends._redis_session import Outcome, Session


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
        return self._session.decisions(batch, parts, answers)

    async def close(self) -> None:
        """See Line."""
        await self._link.close()
        await self._aside.close()


def _nobody(_: Call | Answer) -> None:
    """Nothing is given back of what no lease came with."""
