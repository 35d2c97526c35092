"""What one process knows of its limits on Redis, and asks and understands without waiting.

The two shells differ only in how they wait; everything else that they do is here, once. A session ends with a fork:
the child has an owner, leases and connections of its own.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from awx_ratelimit.backends.base import Clock
from awx_ratelimit.backends.redis.batch import unavailable
from awx_ratelimit.backends.redis.codec import Call, Codec, HeldLease, PendingClaim, ReleasedLease, Renewal
from awx_ratelimit.backends.redis.connection import Reply, answered
from awx_ratelimit.backends.redis.leases import Home, Leases
from awx_ratelimit.backends.redis.maintenance_thread import MaintenanceThread
from awx_ratelimit.backends.redis.routing import Route
from awx_ratelimit.backends.redis.self_test import trials
from awx_ratelimit.backends.redis.server import Redirect, Server
from awx_ratelimit.core.claim import checked_claim
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
#: The most leases that one batch gives back beside its claims.
MAX_RELEASES = 256
_MAX_RENEWALS = 256
#: What becomes of a claim.
Outcome: TypeAlias = Decision | BackendUnavailable | Redirect
OfSubject = TypeVar("OfSubject", bound=tuple[Any, ...])


class Part(NamedTuple):
    """One call of a batch: the leases that it gives back first, and where it is one of many, its claims' numbers."""

    numbers: Sequence[int]
    released: list[ReleasedLease]
    call: Call


class Session:
    """See the module. `prefix` stands before each key; `clock` given is the time of every call, None the server's."""

    def __init__(self, route: Route, prefix: str, clock: Clock | None, keeper: MaintenanceThread) -> None:
        self.route = route
        self.codec = Codec(prefix, os.urandom(16))
        self.sent_ms = clock.now_ms if clock else lambda: None
        self._hold_times = HoldTimes()
        self._thread = keeper
        now_ms = clock.now_ms if clock else _steady_ms
        #: The server that a subject is on, as far as it is known without waiting.
        self.home: Callable[[str], Server | None] = self._home
        #: The one server, where there is but one.
        self.only: Server | None = None
        if route.together:
            (self.only,) = route.servers()
            self.home = lambda _: self.only
        self.leases = Leases(self.codec.new_lease_id, now_ms, keeper.wake, self.home)
        self._generation = 0
        #: A claim was answered, or nobody waits for its answer: if it has a lease now, that is open, or is to end.
        self.settled = self.leases.answered
        self.lost_leases = 0

    def _home(self, subject: str) -> Server | None:
        return self.route.server(self.codec.key(subject))

    def found(self, subject: str) -> Server:
        """The server that a subject is on; it may have to be asked for. Raises BackendUnavailable."""
        return self.route.found(self.codec.key(subject))

    def asked(self, subject: str, plan: Plan, cost: int) -> PendingClaim:
        """A claim, with the id of its lease. Its caller says `settled` of that when it waits no longer.

        Raises BackendUnavailable for a claim of a slot at the end of this process.
        """
        subject, plan, cost = self._checked(subject, plan, cost)
        return subject, plan, cost, self.leases.new(plan)

    def looked(self, subject: str, plan: Plan, cost: int) -> PendingClaim:
        """A claim that charges nothing."""
        return *self._checked(subject, plan, cost), 0

    def _checked(self, subject: str, plan: Plan, cost: int) -> tuple[str, Plan, int]:
        """A claim that can be encoded: in a batch, or among leases to give back, it would fail all others."""
        claim = checked_claim(subject, plan, cost)
        self.codec.check(claim[1])
        return claim

    def acquire(self, batch: Sequence[PendingClaim], server: Server) -> list[Part]:
        """The calls that decide `batch` on `server`, with leases that they give back first."""
        if server is self.only:
            released = self.leases.released(MAX_RELEASES, server, batch)
            return [Part((), released, self.codec.acquire(batch, released, self.sent_ms()))]
        released = self.released(server.home, batch)
        return self._parts(batch, released, alone=not server.asking)

    def _parts(self, batch: Sequence[PendingClaim], released: list[ReleasedLease], *, alone: bool) -> list[Part]:
        """One call of each subject, and with `alone` of those too that have leases to give back and no claims."""
        freed = {leases[0][0]: leases for leases in self.apart(released)}
        now_ms, parts = self.sent_ms(), []
        for claims in self.apart([(asked[0], number) for number, asked in enumerate(batch)]):
            numbers, leases = [number for _, number in claims], freed.pop(claims[0][0], [])
            parts.append(Part(numbers, leases, self.codec.acquire([batch[n] for n in numbers], leases, now_ms)))
        if alone:
            parts += [Part((), leases, self.codec.acquire((), leases, now_ms)) for leases in freed.values()]
        return parts

    def apart(self, items: Sequence[OfSubject]) -> list[list[OfSubject]]:
        """Which of `items`, each of the subject that it begins with, may go in one call."""
        if self.route.together:
            return [list(items)] if items else []
        by_subject: dict[str, list[OfSubject]] = {}
        for item in items:
            by_subject.setdefault(item[0], []).append(item)
        return list(by_subject.values())

    def released(self, home: Home, batch: Sequence[PendingClaim] = ()) -> list[ReleasedLease]:
        """Leases to give back there, with those of the subjects of `batch`."""
        if self._generation != self.route.generation:
            self._generation = self.route.generation
            self.leases.resettle()
        return self.leases.released(MAX_RELEASES, home, batch)

    def decisions(
        self, batch: Sequence[PendingClaim], parts: Sequence[Part], answers: Sequence[Reply]
    ) -> list[Outcome]:
        """What those calls answered. From now on the leases in it are open, and those they gave back are no more."""
        if len(parts) == 1:
            return self._outcomes(batch, parts[0].released, answers[0])
        outcomes: dict[int, Outcome] = {}
        for part, answer in zip(parts, answers, strict=True):
            claims = [batch[number] for number in part.numbers]
            outcomes.update(zip(part.numbers, self._outcomes(claims, part.released, answer), strict=True))
        return [outcomes[number] for number in range(len(batch))]

    def _outcomes(self, claims: Sequence[PendingClaim], released: list[ReleasedLease], answer: Reply) -> list[Any]:
        if isinstance(answer, bytes):
            self.leases.ended(released)
            return self.codec.decisions(claims, answer, self._hold_times, self.granted)
        if isinstance(answer, Redirect):
            return [answer] * len(claims)
        for claim in claims:
            self.unanswered(claim)
        return [unavailable(answer) for _ in claims]

    def granted(self, asked: PendingClaim, decided_at_ms: int, lease_id: int) -> Any:
        """The holder of what was granted; with a `lease_id` its lease is open, and is renewed."""
        concurrency = asked[1].concurrency
        if lease_id and concurrency is not None:
            self._thread.keep(concurrency.ttl_ms)
        return self.leases.grant(asked, decided_at_ms, lease_id)

    def release(self, decision: Decision) -> None:
        """See Backend."""
        try:
            held_ms = self.leases.release(decision)
            if held_ms is not None:
                self._hold_times.record(decision.plan, held_ms)
        except Exception:
            # A release never raises, whatever a clock of the user's does.
            _log.exception("the release of a lease failed")

    def abandon(self, outcome: Outcome) -> None:
        """Give back all that was granted to a caller who has gone. It raises nothing."""
        try:
            if isinstance(outcome, Decision):
                self.leases.abandon(outcome)
                self._thread.start()
        except Exception:
            _log.exception("a decision whose caller has gone cannot be given back")

    def unanswered(self, asked: PendingClaim) -> None:
        """Give back the lease that a claim without an answer may have been granted. It raises nothing."""
        subject, plan, _, lease_id = asked
        try:
            if lease_id and plan.slot_bit:
                self.leases.unanswered(subject, plan, lease_id)
                self._thread.start()
        except Exception:
            _log.exception("the lease of a claim without an answer cannot be given back")

    def refund(self, decision: Decision) -> list[Call]:
        """The call that refunds `decision`, once."""
        return [self.codec.refund(decision, self.sent_ms())] if self.leases.refunds(decision) else []

    def reset(self, subject: str) -> list[Call]:
        """The call that forgets what `subject` owes."""
        return [self.codec.reset(subject, self.sent_ms())]

    def ping(self) -> list[tuple[str, Call]]:
        """Calls that leave nothing behind, and need all that a decision needs of every server."""
        return trials(self.route, self.codec, self.sent_ms())

    def done(self, subject: str, answer: Reply) -> None:
        """Raise BackendUnavailable unless a refund or a reset was done."""
        self.codec.done(subject, answered(answer))

    def renewals(self) -> "list[tuple[list[HeldLease], Call]]":
        """The calls that renew every open lease. What was released has to be sent before them."""
        self.leases.end_lapsed()
        settled_below = self.leases.settled_below()
        groups: list[list[HeldLease]] = [[]]
        for held in sorted(self.leases.held(), key=lambda held: held[0]):
            # All leases of a subject go in one call, or it would end those of the other.
            full = not self.route.together or len(groups[-1]) >= _MAX_RENEWALS
            if full and groups[-1] and groups[-1][-1][0] != held[0]:
                groups.append([])
            groups[-1].append(held)
        return [(group, self.codec.renew(group, settled_below, self.sent_ms())) for group in groups if group]

    def renewed(self, group: list[HeldLease], answer: Reply) -> None:
        """What became of the leases of one call."""
        for lease_id, renewal in self.codec.renewals(group, answered(answer)).items():
            over = renewal in (Renewal.LOST, Renewal.ENDED) and self.leases.forget(lease_id)
            if over and renewal is Renewal.LOST:
                self.lost_leases += 1
                server = self.home(group[0][0])
                _log.warning("a lease was lost on redis at %s, and its slot taken by another", server and server.name)

    def health(self, error: BackendUnavailable | None) -> dict[str, Any]:
        """How it is, after a ping that answered or raised `error`."""
        state = "ok" if error is None else str(error)
        return {"state": state, "backend": "redis", "leases": len(self.leases), "lost_leases": self.lost_leases}


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000
