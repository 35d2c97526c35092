"""Limits on a server that processes share: what the backends on Redis and on PostgreSQL have in common.

`RemoteLimits` is for threads and `AsyncRemoteLimits` for event loops; they differ only in how they wait. Claims that
arrive while a call is in flight go together in the next call. If a claim gets no answer, the server may have charged
it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.backends.remote.channel import AsyncChannels
from awx_ratelimit.backends.remote.claims import AsyncClaims
from awx_ratelimit.backends.remote.dialect import Dialect
from awx_ratelimit.backends.remote.maintenance import Maintenance
from awx_ratelimit.backends.remote.replies import raise_error
from awx_ratelimit.backends.remote.routing import Route, checked_route
from awx_ratelimit.backends.remote.session import MAX_RESETS
from awx_ratelimit.backends.reports import BackendObserver
from awx_ratelimit.backends.validation import checked_clock
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.claim import checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.clock import Clock
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked


class AsyncRemoteLimits:
    """Decides on a server, in at most one round trip per claim, for the tasks of event loops.

    `dialect` is the kind of server, and `prefix` says where it keeps the limits.
    """

    checks_claims: ClassVar[bool] = True
    needs_asyncio: ClassVar[bool] = True

    def __init__(self, dialect: Dialect, route: Route, prefix: str, clock: Clock | None) -> None:
        self._dialect = dialect
        self._options = (checked_route(route), prefix, None if clock is None else checked_clock(clock))
        self._inherited: list[Any] = []
        self._observers: tuple[BackendObserver, ...] = ()
        self._start()
        register_after_fork(self._start)

    def _start(self) -> None:
        """Start with new connections and no lease; called again in each child process."""
        # Kept but never used: closing an inherited connection would close it for the parent too.
        self._inherited.append(getattr(self, "_channels", None))
        self._maintenance = Maintenance(self._dialect, *self._options)
        self._maintenance.serve(self)
        self._session = self._maintenance.session
        for observer in self._observers:
            self._session.observe(observer)
        self._channels = AsyncChannels(self._session)
        self._claims = AsyncClaims(self._session, self._channels)

    def observe(self, observer: BackendObserver) -> None:
        """See `Observable`."""
        if observer not in self._observers:
            self._observers += (observer,)
            self._session.observe(observer)

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        renew_if_forked()
        claim = self._session.new_claim(subject, plan, cost)
        outcome = await self._channels.claim(claim)
        # One coroutine less for nearly all claims.
        return outcome if outcome.__class__ is Decision else await self._claims.answered(claim, outcome)

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        renew_if_forked()
        return await self._claims.decide(self._session.new_claim(subject, plan, cost, 0))

    async def acquire_joint(self, claim: JointClaim) -> Decision:
        renew_if_forked()
        return await self._claims.acquire(claim)

    async def peek_joint(self, claim: JointClaim) -> Decision:
        renew_if_forked()
        return await self._claims.peek(claim)

    def release(self, decision: Decision) -> None:
        """See Backend. It is sent with the next claims, or within a few hundredths of a second."""
        # In a child that has not decided yet, the session and all decisions belong to its parent.
        if SAME_PROCESS:
            self._session.release(decision)

    async def refund(self, decision: Decision) -> bool:
        return await self.settle(decision, NOTHING)

    async def settle(self, decision: Decision, actual: ActualCost) -> bool:
        """See Backend. Raises BackendUnavailable; then settle again: what was sent before does not count twice."""
        renew_if_forked()
        return await self._claims.settle(decision, actual)

    def can_settle(self, decision: Decision) -> bool:
        """See KnowsSettled."""
        return self._session.leases.can_settle(decision)

    def settle_soon(
        self, decision: Decision, actual: ActualCost, failed: Callable[[BackendUnavailable], None]
    ) -> bool | None:
        """See SettlesSoon. It is sent before the next claims, or within a few hundredths of a second."""
        renew_if_forked()
        return self._maintenance.settle_soon(decision, actual, failed)

    def settle_late(self, decision: Decision, actual: ActualCost) -> None:
        """See SettlesLate. Waits, so call it from a thread."""
        renew_if_forked()
        self._maintenance.settle_late(decision, actual)

    async def reset(self, subject: str, scope: str | None = None) -> bool:
        subject = checked_subject(subject)
        renew_if_forked()
        scopes: list[bytes] = []
        # A scope that is used for the first time meanwhile is reset by the next try.
        for _ in range(MAX_RESETS):
            call = self._session.reset_call(subject, scope, scopes)
            outcome = self._session.reset_outcome(subject, await self._channels.call(subject, call))
            if isinstance(outcome, bool):
                return outcome
            scopes = outcome
        raise BackendUnavailable(
            f"{self._dialect.name}: nothing was reset, because requests have used a new scope of the subject before "
            f"each of {MAX_RESETS} tries; reset it again, or one scope after the other"
        )

    async def renew_leases(self) -> None:
        """Renew every open lease now. Raises BackendUnavailable."""
        renew_if_forked()
        await asyncio.to_thread(self._maintenance.renew_now)

    def heal(self, owed: Sequence[LocalUsage], heal_id: bytes) -> list[Decision]:
        """Add what a guard charged during an outage, once for each `heal_id`. Waits, so call it from a thread.

        Returns the leases that were entered, in order. Raises BackendUnavailable.
        """
        renew_if_forked()
        return self._maintenance.heal(owed, heal_id)

    def home(self, subject: Record) -> object:
        """The server of `subject`, or None if it is not known yet. A guard has one circuit breaker per server."""
        renew_if_forked()
        return self._session.home(subject)

    async def health(self) -> Mapping[str, Any]:
        renew_if_forked()
        try:
            for subject, call in self._session.health_calls():
                raise_error(await self._channels.call(subject, call))
        except BackendUnavailable as error:
            return self._session.health(error)
        return self._session.health(None)

    async def flush(self) -> None:
        """Send what is pending, such as released leases, within the timeout of one call. Never raises."""
        renew_if_forked()
        await asyncio.to_thread(self._maintenance.flush)

    async def close(self) -> None:
        """See Backend. Releases every lease, including those that are held, within the timeout of one call."""
        renew_if_forked()
        await asyncio.to_thread(self._maintenance.close, with_held=self._channels.are_alone)
        await self._channels.close()
