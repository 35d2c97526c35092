"""Decides claims over channels: again with a period that they lacked, and in parts where one call is not enough.

On a cluster, the records of a JointClaim may be in several slots. Then its parts are charged one after the other, in
the order of their slots. If one refuses or fails, the parts before are given back exactly. So a claim is never over a
limit, but one that is refused may have kept others out for the time of its calls.
"""

import time
from typing import Any

from awx_ratelimit.backends.remote.channel import AsyncChannels
from awx_ratelimit.backends.remote.pending_claims import MAX_PERIOD_TRIES, OtherPeriod, PendingClaim, period_error
from awx_ratelimit.backends.remote.replies import raise_error
from awx_ratelimit.backends.remote.session import Session
from awx_ratelimit.backends.remote.settlements import PendingSettlement
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.settlement import NOTHING, ActualCost
from awx_ratelimit.errors import BackendUnavailable


class AsyncClaims:
    """Decides the claims of `session`, and settles them."""

    def __init__(self, session: Session, channels: AsyncChannels) -> None:
        self._session = session
        self._channels = channels

    async def decide(self, claim: PendingClaim) -> Decision:
        """The decision of a claim that is one call. Raises BackendUnavailable."""
        return await self.answered(claim, await self._channels.claim(claim))

    async def answered(self, claim: PendingClaim, outcome: Any) -> Decision:
        """The decision of a claim with this outcome. Raises BackendUnavailable."""
        outcome = raise_error(outcome)
        if outcome.__class__ is OtherPeriod:
            outcome = await self._decide_again(claim, outcome)
        return outcome  # type: ignore[no-any-return]

    async def _decide_again(self, claim: Any, answer: Any) -> Decision:
        """Send a claim again with the calendar period that it lacked."""
        for _ in range(MAX_PERIOD_TRIES):
            claim = self._session.with_period(claim, answer)
            answer = raise_error(await self._channels.claim(claim))
            if answer.__class__ is not OtherPeriod:
                return answer  # type: ignore[no-any-return]
        raise period_error("claim", self._session.dialect.name)

    async def acquire(self, claim: JointClaim) -> Decision:
        """Decide and charge a JointClaim. Raises BackendUnavailable."""
        pending = self._session.new_joint(claim)
        if self._session.is_one_call(claim):
            return await self.decide(pending)
        lease_id = self._session.lease_ids.new()
        try:
            return await self._acquire_parts(claim, lease_id)
        finally:
            self._session.lease_ids.finish(lease_id)

    async def _acquire_parts(self, claim: JointClaim, lease_id: int) -> Decision:
        parts = self._session.parts.of(claim, lease_id)
        charged: list[Any] = []
        until_s = time.monotonic() + self._session.route.timeout_s
        try:
            for part in parts:
                if charged:
                    _check_time(until_s)
                decision: Any = await self.decide(part)
                if not decision.allowed:
                    while charged:
                        await self._undo(charged[-1])
                        charged.pop()
                    others = [decision if each is part else await self._look(each) for each in parts]
                    return self._session.parts.joined(claim, parts, others, decision)
                charged.append(decision)
        except BaseException:
            for each in charged:
                self._session.abandon(each)
            raise
        return self._session.parts.granted(claim, parts, charged, lease_id)

    async def _undo(self, decision: JointDecision) -> None:
        self._session.parts.release(decision)
        await self.settle(decision, NOTHING)

    async def _look(self, part: Any) -> Any:
        return await self.decide(part._replace(lease_id=0))

    async def peek(self, claim: JointClaim) -> Decision:
        """Decide a JointClaim without charging it. Raises BackendUnavailable."""
        pending = self._session.new_joint(claim, 0)
        if self._session.is_one_call(claim):
            return await self.decide(pending)
        parts = self._session.parts.of(claim, 0)
        decisions = [await self._look(part) for part in parts]
        return self._session.parts.joined(claim, parts, decisions, decisions[0])

    async def settle(self, decision: Decision, actual: ActualCost) -> bool:
        """Correct what `decision` charged. Raises BackendUnavailable; then it can be called again."""
        try:
            settling = self._session.settlements.of(decision, actual)
            if settling is None:
                return False
            for settlement in settling:
                await self._settle(settlement)
            return self._session.leases.count_settlement(decision)
        except BaseException:
            self._session.settlements.reopen(decision)
            raise

    async def _settle(self, pending: PendingSettlement) -> None:
        for _ in range(MAX_PERIOD_TRIES):
            reply = await self._channels.call(pending.record, self._session.settlements.call(pending))
            again = self._session.settlements.settled(pending, reply)
            if again is None:
                return
            pending = again
        raise period_error("settlement", self._session.dialect.name)


def _check_time(until_s: float) -> None:
    if time.monotonic() > until_s:
        raise BackendUnavailable("redis cluster: the servers of a claim have not all answered in time")
