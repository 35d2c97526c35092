"""Everything that one process knows about its limits on Redis: builds calls and reads replies, without waiting.

The sync and the async backend differ only in how they wait; the rest of their work is here. A child process starts a
new session, with its own owner id, leases and connections.
"""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from awx_ratelimit.backends.redis.codec import (
    Codec,
    HeldLease,
    OfSubject,
    PendingClaim,
    ReleasedLease,
    Renewal,
    by_subject,
)
from awx_ratelimit.backends.redis.connection import Reply, raise_error
from awx_ratelimit.backends.redis.doctor import self_test_calls
from awx_ratelimit.backends.redis.leases import Leases
from awx_ratelimit.backends.redis.maintenance_thread import MaintenanceThread
from awx_ratelimit.backends.redis.pending_releases import Home
from awx_ratelimit.backends.redis.routing import Route
from awx_ratelimit.backends.redis.scripts import Call, encoded_plan
from awx_ratelimit.backends.redis.server import Redirect, Server, copied_error
from awx_ratelimit.core.claim import checked_claim
from awx_ratelimit.core.decision import Decision, HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.clock import Clock, monotonic_ms

_log = logging.getLogger("awx_ratelimit")
#: The most leases that one call releases in addition to its claims.
MAX_RELEASES = 256
_MAX_RENEWALS = 256
#: What becomes of a claim.
Outcome: TypeAlias = Decision | BackendUnavailable | Redirect


class BatchCall(NamedTuple):
    """One call of a batch, the leases that it releases first, and on a cluster the positions of its claims."""

    numbers: Sequence[int]
    released: list[ReleasedLease]
    call: Call


class Session:
    """See the module. `prefix` begins every key. `clock` gives the time of every call; None uses the server's time."""

    def __init__(self, route: Route, prefix: str, clock: Clock | None, thread: MaintenanceThread) -> None:
        self.route = route
        self.codec = Codec(prefix, os.urandom(16))
        #: The time to send with a call, in ms; None lets the server use its own.
        self.call_time_ms = clock.now_ms if clock else lambda: None
        self._hold_times = HoldTimes()
        self._thread = thread
        now_ms = clock.now_ms if clock else monotonic_ms
        #: The server of a subject, or None if that is not known without waiting.
        self.home: Callable[[str], Server | None] = self._home
        #: The server, if there is only one.
        self.only_server: Server | None = None
        if route.multi_key:
            (self.only_server,) = route.servers()
            self.home = lambda _: self.only_server
        self.leases = Leases(self.codec.new_lease_id, now_ms, thread.wake, self.home)
        self._generation = 0
        #: Called with the lease id of a claim when its caller has the answer or has gone.
        self.settle = self.leases.settle
        self.lost_leases = 0

    def _home(self, subject: str) -> Server | None:
        return self.route.server(self.codec.key(subject))

    def find_server(self, subject: str) -> Server:
        """The server of a subject; may wait to look it up. Raises BackendUnavailable."""
        return self.route.find_server(self.codec.key(subject))

    def new_claim(self, subject: str, plan: Plan, cost: int) -> PendingClaim:
        """A claim with a lease id. The caller must call `settle` with this id when it stops waiting.

        Raises BackendUnavailable for a claim of a slot while the process exits.
        """
        subject, plan, cost = self._checked(subject, plan, cost)
        return subject, plan, cost, self.leases.new_id(plan)

    def new_peek(self, subject: str, plan: Plan, cost: int) -> PendingClaim:
        """A claim that charges nothing."""
        return *self._checked(subject, plan, cost), 0

    def _checked(self, subject: str, plan: Plan, cost: int) -> tuple[str, Plan, int]:
        """A claim that can be encoded. In a batch, one that cannot would fail all others."""
        claim = checked_claim(subject, plan, cost)
        encoded_plan(claim[1])
        return claim

    def batch_calls(self, batch: Sequence[PendingClaim], server: Server) -> list[BatchCall]:
        """The calls that decide `batch` on `server`. They also release leases there."""
        if server is self.only_server:
            released = self.leases.pending.next(MAX_RELEASES, server, batch)
            return [BatchCall((), released, self.codec.acquire(batch, released, self.call_time_ms()))]
        released = self.leases_to_release(server.home, batch)
        return self._calls_by_subject(batch, released, releases_alone=not server.asking)

    def _calls_by_subject(
        self, batch: Sequence[PendingClaim], released: list[ReleasedLease], *, releases_alone: bool
    ) -> list[BatchCall]:
        """One call for each subject with claims; with `releases_alone` also for each subject that has only releases."""
        releases = by_subject(released)
        now_ms, calls = self.call_time_ms(), []
        for claims in self.split_by_call([(claim[0], number) for number, claim in enumerate(batch)]):
            numbers, leases = [number for _, number in claims], releases.pop(claims[0][0], [])
            calls.append(BatchCall(numbers, leases, self.codec.acquire([batch[n] for n in numbers], leases, now_ms)))
        if releases_alone:
            calls += [BatchCall((), leases, self.codec.acquire((), leases, now_ms)) for leases in releases.values()]
        return calls

    def split_by_call(self, items: Sequence[OfSubject]) -> list[list[OfSubject]]:
        """Group `items`, which begin with their subjects, by the call that they may share."""
        if self.route.multi_key:
            return [list(items)] if items else []
        return list(by_subject(items).values())

    def leases_to_release(self, home: Home, batch: Sequence[PendingClaim] = ()) -> list[ReleasedLease]:
        """The leases to release on a server, those of the subjects in `batch` first."""
        if self._generation != self.route.generation:
            self._generation = self.route.generation
            self.leases.pending.regroup()
        return self.leases.pending.next(MAX_RELEASES, home, batch)

    def outcomes(
        self, batch: Sequence[PendingClaim], calls: Sequence[BatchCall], replies: Sequence[Reply]
    ) -> list[Outcome]:
        """The outcome of each claim. Granted leases are now open, and released ones are no longer pending."""
        if len(calls) == 1:
            return self._call_outcomes(batch, calls[0].released, replies[0])
        outcomes: dict[int, Outcome] = {}
        for call, reply in zip(calls, replies, strict=True):
            claims = [batch[number] for number in call.numbers]
            outcomes.update(zip(call.numbers, self._call_outcomes(claims, call.released, reply), strict=True))
        return [outcomes[number] for number in range(len(batch))]

    def _call_outcomes(self, claims: Sequence[PendingClaim], released: list[ReleasedLease], reply: Reply) -> list[Any]:
        if isinstance(reply, bytes):
            self.leases.pending.remove(released)
            return self.codec.parse_decisions(claims, reply, self._hold_times, self.grant)
        if isinstance(reply, Redirect):
            return [reply] * len(claims)
        for claim in claims:
            self.release_unanswered(claim)
        return [copied_error(reply) for _ in claims]

    def grant(self, claim: PendingClaim, decided_at_ms: int, lease_id: int) -> Any:
        """The holder of an admitted Decision. With a `lease_id`, its lease is open and will be renewed."""
        concurrency = claim[1].concurrency
        if lease_id and concurrency is not None:
            self._thread.renew_within(concurrency.ttl_ms)
        return self.leases.grant(claim, decided_at_ms, lease_id)

    def release(self, decision: Decision) -> None:
        try:
            held_ms = self.leases.release(decision)
            if held_ms is not None:
                self._hold_times.record(decision.plan, held_ms)
        except Exception:
            # A release never raises, not even if the user's clock does.
            _log.exception("a lease could not be released")

    def abandon(self, outcome: Outcome) -> None:
        """Give back everything that a caller was granted who has gone. Never raises."""
        try:
            if isinstance(outcome, Decision):
                self.leases.abandon(outcome)
                self._thread.start()
        except Exception:
            _log.exception("a decision whose caller has gone could not be given back")

    def release_unanswered(self, claim: PendingClaim) -> None:
        """Release the lease that a claim without an answer may have taken. Never raises."""
        subject, plan, _, lease_id = claim
        try:
            if lease_id and plan.slot_bit:
                self.leases.release_unanswered(subject, plan, lease_id)
                self._thread.start()
        except Exception:
            _log.exception("the lease of a claim without an answer could not be released")

    def refund_calls(self, decision: Decision) -> list[Call]:
        """The call that refunds `decision`; none if it was refunded before."""
        return [self.codec.refund(decision, self.call_time_ms())] if self.leases.start_refund(decision) else []

    def reset_call(self, subject: str) -> Call:
        """The call that clears the debts of `subject`."""
        return self.codec.reset(subject, self.call_time_ms())

    def health_calls(self) -> list[tuple[str, Call]]:
        """Subjects and calls that test everything that a decision needs, on every server, and leave nothing behind."""
        return self_test_calls(self.route, self.codec, self.call_time_ms())

    def check_done(self, subject: str, reply: Reply) -> None:
        """Raise BackendUnavailable unless a refund or a reset succeeded."""
        self.codec.check_done(subject, raise_error(reply))

    def renewal_calls(self) -> "list[tuple[list[HeldLease], Call]]":
        """The calls that renew every open lease. Send the pending releases before them."""
        self.leases.release_lapsed()
        settled_below = self.leases.settled_below()
        groups: list[list[HeldLease]] = [[]]
        for held in sorted(self.leases.held(), key=lambda held: held[0]):
            # All leases of a subject go in one call: a call ends the leases of its subjects that are not in it.
            full = not self.route.multi_key or len(groups[-1]) >= _MAX_RENEWALS
            if full and groups[-1] and groups[-1][-1][0] != held[0]:
                groups.append([])
            groups[-1].append(held)
        return [(group, self.codec.renew(group, settled_below, self.call_time_ms())) for group in groups if group]

    def apply_renewals(self, group: list[HeldLease], reply: Reply) -> None:
        """Close the leases of `group` that were not renewed."""
        for lease_id, renewal in self.codec.parse_renewals(group, raise_error(reply)).items():
            closed = renewal in (Renewal.LOST, Renewal.ENDED) and self.leases.forget(lease_id)
            if closed and renewal is Renewal.LOST:
                self.lost_leases += 1
                server = self.home(group[0][0])
                _log.warning("a lease was lost on redis at %s, and its slot taken by another", server and server.name)

    def health(self, error: BackendUnavailable | None) -> dict[str, Any]:
        """The health after the calls of `health_calls` succeeded, or failed with `error`."""
        state = "ok" if error is None else str(error)
        return {"state": state, "backend": "redis", "leases": len(self.leases), "lost_leases": self.lost_leases}
