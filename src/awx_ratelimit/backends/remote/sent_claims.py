"""A batch of claims on its way to a server, with what travels along: leases to release, and settlements."""

import time
from collections.abc import Sequence

from awx_ratelimit.backends.remote.pending_claims import PendingClaim
from awx_ratelimit.backends.remote.replies import Reply
from awx_ratelimit.backends.remote.routing import Server
from awx_ratelimit.backends.remote.session import Outcome, Session


class SentClaims:
    """See Sent. Its claims get their lease ids here, all at once."""

    __slots__ = ("_batch_calls", "_begun_s", "_claims", "_first_id", "_queued", "_server", "_session", "calls")

    def __init__(self, session: Session, server: Server, claims: Sequence[PendingClaim]) -> None:
        self._session = session
        self._server = server
        settlements = session.settlements
        self._queued = settlements.next_queued(claims) if settlements.is_queued else []
        self._claims: Sequence[PendingClaim] = ()
        self._first_id = 0
        try:
            self._first_id, given = session.lease_ids.give(claims)
            self._claims = session.calls.alike(given)
            first = [settlements.call(each.pending) for each in self._queued] if self._queued else []
            self._batch_calls = session.calls.of(self._claims, server)
        except BaseException as error:
            self.fail(error)
            raise
        self.calls = first + [each.call for each in self._batch_calls]
        self._begun_s = time.monotonic()

    def received(self, replies: list[Reply]) -> None:
        """See Sent. What was released is no longer pending, and what was settled is no longer queued.

        Removes the replies to settlements.
        """
        session = self._session
        self._server.home.answered_calls += 1
        if session.call_observers:
            session.report_call(time.monotonic() - self._begun_s)
        if self._queued:
            session.settlements.finish(self._queued, replies)
            del replies[: len(self._queued)]
        for call, reply in zip(self._batch_calls, replies, strict=True):
            if call.released and session.dialect.is_reply(reply):
                session.leases.pending.remove(call.released)

    def results(self, replies: list[Reply]) -> list[Outcome]:
        """See Sent. The leases that were granted are open from now on."""
        outcomes = self._session.outcomes(self._claims, self._batch_calls, replies)
        self._session.lease_ids.finish(self._first_id)
        return outcomes

    def fail(self, error: BaseException) -> None:
        """See Sent. The leases that the claims may have taken are released."""
        self._session.settlements.fail(self._queued, error)
        for claim in self._claims:
            self._session.release_unanswered(claim)
        self._session.lease_ids.finish(self._first_id)
