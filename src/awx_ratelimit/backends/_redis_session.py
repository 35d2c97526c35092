"""What one process knows of its limits on Redis, and asks and understands without waiting.

The two shells differ only in how they wait; everything else that they do is here, once. A session ends with a fork:
the child has an owner, leases and connections of its own.
"""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from awx_ratelimit.backends._redis_codec import Asked, Call, Codec, Held, Released, Renewal
from awx_ratelimit.backends._redis_keeper import LeaseKeeper, Linger
from awx_ratelimit.backends._redis_leases import Leases
from awx_ratelimit.backends._redis_link import Answer, Link, answered
from awx_ratelimit.backends._redis_server import Server
from awx_ratelimit.backends._redis_trial import trial
from awx_ratelimit.backends.base import Clock, Owed
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.holding import HoldTimes
from awx_ratelimit.core.plans import Plan
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
_MOST_RELEASED = 256
_MOST_RENEWED = 256


class Session:
    """See the module. `prefix` stands before each key; `clock` given is the time of every call, None the server's."""

    def __init__(self, server: Server, prefix: str, clock: Clock | None) -> None:
        self.server = server
        self.codec = Codec(prefix, os.urandom(16))
        self._sent_ms = clock.now_ms if clock else lambda: None
        self._hold_times = HoldTimes()
        self._keeper = LeaseKeeper(self._turn)
        self.leases = Leases(self.codec.new_lease_id, clock.now_ms if clock else _steady_ms, self._keeper.wake)
        #: A claim was answered, or nobody waits for its answer: if it has a lease now, that is open, or is to end.
        self.settled = self.leases.answered
        self._link = Link(server)
        self._troubled = False
        self._linger = Linger()
        self.lost_leases = 0

    def asked(self, subject: str, plan: Plan, cost: int) -> Asked:
        """A claim, with the id of its lease. Its caller says `settled` of that when it waits no longer."""
        self.codec.check(plan)
        return subject, plan, cost, self.leases.new()

    def looked(self, subject: str, plan: Plan, cost: int) -> Asked:
        """A claim that charges nothing."""
        self.codec.check(plan)
        return subject, plan, cost, 0

    def acquire(self, batch: Sequence[Asked]) -> tuple[Call, list[Released]]:
        """The call that decides `batch`, and the leases that it gives back first."""
        released = self.leases.released(_MOST_RELEASED, batch)
        return self.codec.acquire(batch, released, self._sent_ms()), released

    def decisions(
        self, batch: Sequence[Asked], released: list[Released], answer: Answer
    ) -> list[Decision | BackendUnavailable]:
        """What that call answered. From now on the leases in it are open, and those it gave back are no more."""
        answer = answered(answer)
        self.leases.ended(released)
        return self.codec.decisions(batch, answer, self._hold_times, self._granted)

    def _granted(self, asked: Asked, decided_at_ms: int, lease_id: int) -> Any:
        concurrency = asked[1].concurrency
        if lease_id and concurrency is not None:
            self._keeper.keep(concurrency.ttl_ms)
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

    def abandon(self, answer: Decision | BackendUnavailable) -> None:
        """Give back all that was granted to a caller who has gone."""
        if isinstance(answer, Decision):
            self.leases.abandon(answer)
            self._keeper.start()

    def unanswered(self, asked: Asked) -> None:
        """Give back the lease that a claim without an answer may have been granted."""
        subject, plan, _, lease_id = asked
        if lease_id and plan.slot_bit:
            self.leases.unanswered(subject, plan, lease_id)
            self._keeper.start()

    def refund(self, decision: Decision) -> list[Call]:
        """The call that refunds `decision`, once."""
        return [self.codec.refund(decision, self._sent_ms())] if self.leases.refunds(decision) else []

    def reset(self, subject: str) -> list[Call]:
        """The call that forgets what `subject` owes."""
        return [self.codec.reset(subject, self._sent_ms())]

    def ping(self) -> list[Call]:
        """Calls that leave nothing behind, and need all that a decision needs of the server."""
        return trial(self.codec, self._sent_ms())

    def done(self, subject: str, answer: Answer) -> None:
        """Raise BackendUnavailable unless a refund or a reset was done."""
        self.codec.done(subject, answered(answer))

    def renewals(self) -> "list[tuple[list[Held], Call]]":
        """The calls that renew every open lease. What was released has to be sent before them."""
        self.leases.end_lapsed()
        settled_below = self.leases.settled_below()
        groups: list[list[Held]] = [[]]
        for held in sorted(self.leases.held(), key=lambda held: held[0]):
            # All leases of a subject go in one call, or it would end those of the other.
            if len(groups[-1]) >= _MOST_RENEWED and groups[-1][-1][0] != held[0]:
                groups.append([])
            groups[-1].append(held)
        return [(group, self.codec.renew(group, settled_below, self._sent_ms())) for group in groups if group]

    def renewed(self, group: list[Held], answer: Answer) -> None:
        """What became of the leases of one call."""
        for lease_id, renewal in self.codec.renewals(group, answered(answer)).items():
            over = renewal in (Renewal.LOST, Renewal.ENDED) and self.leases.forget(lease_id)
            if over and renewal is Renewal.LOST:
                self.lost_leases += 1
                _log.warning("a lease was lost on redis at %s, and its slot taken by another", self.server.name)

    def health(self, error: BackendUnavailable | None) -> dict[str, Any]:
        """How it is, after a ping that answered or raised `error`."""
        state = "ok" if error is None else str(error)
        return {"state": state, "backend": "redis", "leases": len(self.leases), "lost_leases": self.lost_leases}

    def renew_now(self) -> None:
        """One renewal of every open lease. Raises BackendUnavailable."""
        self._send_all()
        self.renew(self._link)

    def heal(self, owed: Sequence[Owed], heal_id: bytes) -> list[Decision]:
        """Add what a fallback has charged, once for each `heal_id`, and enter its leases, which are open from now on.

        It waits, and may be called from any thread. Raises BackendUnavailable.
        """
        # What a try without an answer has entered is renewed by nobody, and entered again by the next renewal.
        leases = [[(self.codec.new_lease_id(), at_ms) for at_ms in granted] for _, _, _, granted in owed]
        healed = [(subject, plan, debts, ids) for (subject, plan, debts, _), ids in zip(owed, leases, strict=True)]
        (answer,) = self._link.run([self.codec.heal(healed, heal_id, self._sent_ms())])
        for done in self.codec.heals(healed, answered(answer)):
            if isinstance(done, BackendUnavailable):
                _log.error("what was decided without redis is lost: %s", done)
        return [self._entered(subject, plan, *lease) for subject, plan, _, ids in healed for lease in ids]

    def _entered(self, subject: str, plan: Plan, lease_id: int, at_ms: int) -> Decision:
        holder = self._granted((subject, plan, 0, lease_id), at_ms, lease_id)
        return Decision(subject, plan, 0, at_ms, 0, [0, 0] * len(plan.rates), 0, lease_id, holder, 0)

    def close(self) -> None:
        """Give back what waits for that, and end the thread and its connection. It raises nothing."""
        self._keeper.stop()
        try:
            self._send_all()
        except BackendUnavailable as error:
            _log.warning("leases cannot be given back, and will lapse: %s", error)
        self._link.close()

    def _send_all(self) -> None:
        while released := self.leases.released(_MOST_RELEASED):
            self.send(self._link, released)
        self.send(self._link, [])

    def _turn(self, renew: bool) -> bool:
        """One turn of the thread, and whether all was done. It raises nothing, and says once that it cannot do it."""
        try:
            released = self.leases.released(_MOST_RELEASED)
            if released and not renew:
                time.sleep(self._linger.seconds)
            late = [lease for lease in released if self.leases.is_ending(lease)]
            self._linger.went(late=bool(late))
            self.send(self._link, late)
            if renew:
                self.renew(self._link)
            if self.leases.released(1):
                # It was more than goes in one call, or came meanwhile.
                self._keeper.wake()
        except Exception as error:
            if not self._troubled:
                known = isinstance(error, AwxRateLimitError)
                _log.warning("leases cannot be given back or renewed: %s", error, exc_info=not known)
            self._troubled = True
            return False
        self._troubled = False
        return True

    def send(self, link: Link, released: list[Released]) -> None:
        """Give these leases back, and all that was abandoned. Raises BackendUnavailable."""
        calls = [self.codec.acquire((), released, self._sent_ms())] if released else []
        calls += [call for decision in self.leases.abandoned() for call in self.refund(decision)]
        for answer in link.run(calls) if calls else ():
            answered(answer)
        self.leases.ended(released)

    def renew(self, link: Link) -> None:
        """Renew every open lease. Raises BackendUnavailable."""
        for group, call in self.renewals():
            try:
                (answer,) = link.run([call])
            finally:
                self.leases.end_closed(group)
            self.renewed(group, answer)


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000
