"""Several processes and hosts share limits on one Redis or Valkey: each claim is one atomic step of one script.

`RedisBackend` is for threads and `AsyncRedisBackend` for event loops: two twins that differ in how they wait. Claims
that come while a call is under way go together in the next. What a claim without an answer has charged is not known.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from awx_ratelimit.runtime.extras import INSTALL, check_versions

try:
    check_versions("the Redis backend", "redis", "redis")
    from awx_ratelimit.backends.redis.channel import AsyncChannels
    from awx_ratelimit.backends.redis.connection import answered
    from awx_ratelimit.backends.redis.maintenance import Maintenance
    from awx_ratelimit.backends.redis.routing import Route, checked_route, route
    from awx_ratelimit.backends.redis.self_test import probe
except ModuleNotFoundError as error:
    missing = (error.name or "redis").partition(".")[0]
    raise ImportError(f"the Redis backend needs {missing}; {INSTALL.format('redis')}") from error

from awx_ratelimit.backends.base import Clock, LocalUsage, checked_clock
from awx_ratelimit.core.claim import checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.forks import SAME_PROCESS, register_after_fork, renew_if_forked


class AsyncRedisBackend:
    """Decides on a server that processes share, in at most one round trip per claim, for the tasks of event loops.

    `route` says how to reach the server. `prefix` stands before every key: processes share limits if they share the
    prefix. `clock` is an object with ``now_ms() -> int``, for tests; None uses the server's time.
    """

    checks_claims: ClassVar[bool] = True
    needs_asyncio: ClassVar[bool] = True

    def __init__(self, route: Route, *, prefix: str = "awx", clock: Clock | None = None) -> None:
        self._made = (checked_route(route), prefix, None if clock is None else checked_clock(clock))
        self._inherited: list[Any] = []
        self.begin()
        register_after_fork(self.begin)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "awx", timeout_ms: int = 50, clock: Clock | None = None) -> Self:
        """What decides at `url`.

        That is a server at ``redis://``, ``rediss://`` (TLS), ``redis+unix://`` or ``valkey://``; at
        ``redis+sentinel://host,host/service`` the primary of a service that sentinels watch, wherever it is by then;
        and at ``redis+cluster://host,host`` a cluster, of which each server decides for its own keys.

        A call that has no answer within `timeout_ms` has none. Raises ValueError for an URL that is none, and
        BackendMisconfigured for a server that is too old, a replica, or refuses the user or the scripts. A server that
        cannot be reached is a warning: it may come up later.
        """
        way = route(url, timeout_ms=timeout_ms, prefix=prefix)
        probe(way, prefix)
        return cls(way, prefix=prefix, clock=clock)

    def begin(self) -> None:
        """Start anew, with connections of its own and no lease: in a child process."""
        # Kept and never used: closing an inherited connection would close it for the parent as well.
        self._inherited.append(getattr(self, "_channels", None))
        self._maintenance = Maintenance(*self._made)
        self._maintenance.serve(self)
        self._session = self._maintenance.session
        self._channels = AsyncChannels(self._session)

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        renew_if_forked()
        asked = self._session.asked(subject, plan, cost)
        try:
            decision: Decision = answered(await self._channels.claim(asked))
        finally:
            self._session.settled(asked[3])
        return decision

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        renew_if_forked()
        decision: Decision = answered(await self._channels.claim(self._session.looked(subject, plan, cost)))
        return decision

    def release(self, decision: Decision) -> None:
        """See Backend. It is sent with the next claims, or within a few hundredths of a second."""
        # In a child that has not decided yet, the session and every decision are its parent's.
        if SAME_PROCESS:
            self._session.release(decision)

    async def refund(self, decision: Decision) -> None:
        """See Backend."""
        renew_if_forked()
        for call in self._session.refund(decision):
            self._session.done(decision.subject, await self._channels.call(decision.subject, call))

    async def reset(self, subject: str) -> None:
        """See Backend."""
        subject = checked_subject(subject)
        renew_if_forked()
        for call in self._session.reset(subject):
            self._session.done(subject, await self._channels.call(subject, call))

    async def renew_leases(self) -> None:
        """Renew every lease that is open, now. Raises BackendUnavailable."""
        renew_if_forked()
        await asyncio.to_thread(self._maintenance.renew_now)

    def heal(self, owed: Sequence[LocalUsage], heal_id: bytes) -> list[Decision]:
        """Add what a guard has charged in an outage, once for each `heal_id`; from a thread, for it waits.

        Returns the leases that were entered, in order. Raises BackendUnavailable.
        """
        renew_if_forked()
        return self._maintenance.heal(owed, heal_id)

    def home(self, subject: str) -> object:
        """What of it fails as one: the server that `subject` is on, as far as it is known."""
        renew_if_forked()
        return self._session.home(subject)

    async def health(self) -> Mapping[str, Any]:
        """See Backend."""
        renew_if_forked()
        try:
            for subject, call in self._session.ping():
                answered(await self._channels.call(subject, call))
        except BackendUnavailable as error:
            return self._session.health(error)
        return self._session.health(None)

    async def flush(self) -> None:
        """Send what waits for it, such as released leases, within the time of one call. It raises nothing."""
        renew_if_forked()
        await asyncio.to_thread(self._maintenance.flush)

    async def close(self) -> None:
        """See Backend. Every lease is given back, also those that are held, within the time of one call."""
        renew_if_forked()
        await asyncio.to_thread(self._maintenance.close, with_held=self._channels.are_alone)
        await self._channels.close()
