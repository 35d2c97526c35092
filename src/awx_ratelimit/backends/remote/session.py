"""Everything that one process knows about its limits on a server: builds calls and reads replies, without waiting.

The sync and the async backend differ only in how they wait; the rest of their work is here. A child process starts a
new session, with its own owner id, leases and connections.
"""

import logging
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from awx_ratelimit.backends.remote.batch_calls import BatchCall, BatchCalls
from awx_ratelimit.backends.remote.dialect import Dialect, Renewal
from awx_ratelimit.backends.remote.grants import PartGrant
from awx_ratelimit.backends.remote.lease_ids import LeaseIds, refuse_slot
from awx_ratelimit.backends.remote.leases import Leases
from awx_ratelimit.backends.remote.maintenance_thread import MaintenanceThread
from awx_ratelimit.backends.remote.parts import Parts
from awx_ratelimit.backends.remote.pending_claims import (
    NEW_ID,
    HeldLease,
    OtherPeriod,
    PendingClaim,
    PendingJoint,
    PlainClaim,
    by_record,
    checked_joint,
    plain_as_joint,
)
from awx_ratelimit.backends.remote.present import Present
from awx_ratelimit.backends.remote.replies import Call, Redirect, Reply, copied_error, failure, raise_error
from awx_ratelimit.backends.remote.routing import Route, Server
from awx_ratelimit.backends.remote.settlements import Settlements
from awx_ratelimit.backends.reports import BackendObserver
from awx_ratelimit.core.budget import Record, ScopedSubject
from awx_ratelimit.core.claim import checked_claim
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.clock import Clock, monotonic_ms

_log = logging.getLogger("awx_ratelimit")
_MAX_RENEWALS = 256
Outcome: TypeAlias = Decision | BackendUnavailable | Redirect | OtherPeriod  # what becomes of a claim
MAX_RESETS = 10
_ONE = 1  # see "Identity checks" in docs/hot-path.md


class Session:
    """See the module. `prefix` begins every key. `clock` gives the time of every call; None uses the server's time."""

    def __init__(
        self, dialect: Dialect, route: Route, prefix: str, clock: Clock | None, thread: MaintenanceThread
    ) -> None:
        self.dialect, self.route = dialect, route
        self.codec = dialect.codec(prefix, os.urandom(16))
        self.present = Present(clock)
        #: The time to send with a call, in ms; None lets the server use its own.
        self.call_time_ms = self.present.call_time_ms
        self._hold_times = HoldTimes()
        self.call_observers: tuple[Callable[[str, float], Any], ...] = ()
        self._thread = thread
        #: The server of a record, or None if that is not known without waiting.
        self.home: Callable[[Record], Server | None] = self._home
        #: The server, if there is only one.
        self.only_server: Server | None = None
        if route.multi_key:
            (self.only_server,) = route.servers()
            self.home = lambda _: self.only_server
        self.lease_ids = LeaseIds(self.codec.new_lease_id)
        self.leases = Leases(clock.now_ms if clock else monotonic_ms, thread.wake, self.home)
        self.lost_leases = 0
        #: The last plain plan of a claim: most claims have the plan of the one before.
        self._last_plan: Plan | None = None
        self.calls = BatchCalls(route, self.only_server, self.codec, self.present, self.leases.pending)
        self.settlements = Settlements(
            self.codec, self.leases, self.present, self.calls.split, thread.wake, dialect.name
        )
        self.parts = Parts(self.leases, self.codec.slot, self.settlements)

    def _home(self, record: Record) -> Server | None:
        return self.route.server(self.codec.key(record))

    def find_server(self, record: Record) -> Server:
        """The server of a record; may wait to look it up. Raises BackendUnavailable."""
        return self.route.find_server(self.codec.key(record))

    def new_claim(self, subject: str, plan: Plan, cost: int, lease_id: int = NEW_ID) -> PendingClaim:
        """A claim that gets its lease id when it is sent; with the id 0, one that charges nothing.

        Raises BackendUnavailable for a claim of a slot while the process exits.
        """
        if type(subject) is not str or not subject or plan.__class__ is not Plan or cost is not _ONE:
            subject, plan, cost = checked_claim(subject, plan, cost)
        if self.lease_ids.refuses_slots and lease_id and plan.slot_bit:
            refuse_slot()
        # In a batch, a claim that cannot be encoded would fail all others.
        if plan is self._last_plan or self.codec.is_plain(plan):
            self._last_plan = plan
            return subject, plan, cost, lease_id
        return plain_as_joint(subject, plan, cost, lease_id)

    def new_joint(self, claim: JointClaim, lease_id: int = NEW_ID) -> PendingJoint:
        """`new_claim` for a JointClaim."""
        # In a batch, a claim that cannot be encoded would fail all others.
        self.codec.check(checked_joint(claim).shape.charges)
        for record in claim.records:
            self.codec.key(record)
        if self.lease_ids.refuses_slots and lease_id and claim.shape.has_slots:
            refuse_slot()
        return PendingJoint(claim.records[0], claim, (), lease_id)

    def with_period(self, claim: PendingJoint, answer: OtherPeriod) -> PendingJoint:
        """`claim` with the calendar period that it lacked."""
        return claim._replace(later_ms=claim.later_ms + self.present.note(answer))

    def is_one_call(self, claim: JointClaim) -> bool:
        """Whether one call can decide all records of `claim`."""
        slot = self.codec.slot
        return self.route.multi_key or len(claim.records) == 1 or len({slot(record) for record in claim.records}) == 1

    def outcomes(
        self, batch: Sequence[PendingClaim], calls: Sequence[BatchCall], replies: Sequence[Reply]
    ) -> list[Outcome]:
        """The outcome of each claim. Granted leases are now open."""
        if len(calls) == 1 and len(calls[0].numbers) in (0, len(batch)):
            return self._call_outcomes(batch, replies[0])
        outcomes: dict[int, Outcome] = {}
        for call, reply in zip(calls, replies, strict=True):
            claims = [batch[number] for number in call.numbers]
            outcomes.update(zip(call.numbers, self._call_outcomes(claims, reply), strict=True))
        return [outcomes[number] for number in range(len(batch))]

    def _call_outcomes(self, claims: Sequence[Any], reply: Reply) -> list[Any]:
        if isinstance(reply, Redirect):
            return [reply] * len(claims)
        if self.dialect.is_reply(reply):
            try:
                if claims and claims[0].__class__ is PendingJoint:
                    return self.codec.joint.parse_decisions(claims, reply, self._hold_times, self.grant_jointly)
                return self.codec.parse_decisions(claims, reply, self._hold_times, self.grant)
            except struct.error:
                reply = None
        for claim in claims:
            self.release_unanswered(claim)
        return [copied_error(failure(reply, self.dialect.name)) for _ in claims]

    def grant(self, claim: PlainClaim, decided_at_ms: int, lease_id: int) -> Any:
        """The holder of an admitted Decision. With a `lease_id`, its lease is open and will be renewed."""
        if lease_id and (claim[1] is not self._thread.renewed_plan or self._thread.thread is None):
            self._thread.renew_for(claim[1])
        return self.leases.grant((claim[:2],), decided_at_ms, lease_id)

    def grant_jointly(
        self, claim: PendingJoint, decided_at_ms: int, lease_id: int, slots: tuple[tuple[Record, Plan], ...]
    ) -> Any:
        """`grant` for a JointClaim that has taken `slots`."""
        for _, plan in slots:
            self._thread.renew_for(plan)
        declared_id = claim.lease_id if claim.claim.declared else 0
        if claim.is_part:
            return PartGrant(self.leases, declared_id, slots)
        return self.leases.grant(slots, decided_at_ms, lease_id, declared_id)

    def observe(self, observer: BackendObserver) -> None:
        self._hold_times.observe(observer.held)
        self.call_observers += (observer.called,)

    def report_call(self, seconds: float) -> None:
        for called in self.call_observers:
            called(self.dialect.name, seconds)

    def release(self, decision: Decision) -> None:
        try:
            held_ms = self.leases.release(decision)
            if held_ms is not None:
                for plan in decision.record_plans:
                    if plan.slot_bit:
                        self._hold_times.record(plan, held_ms)
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
        try:
            if self.leases.release_unanswered(claim):
                self._thread.start()
        except Exception:
            _log.exception("the lease of a claim without an answer could not be released")

    def reset_call(self, subject: str, scope: str | None, scopes: Sequence[bytes]) -> Call:
        """The call that clears the debts of `subject` in `scope`; for None, those without a scope and in `scopes`."""
        if scope is not None:
            return self.codec.reset_scope(ScopedSubject(subject, scope), self.call_time_ms())
        return self.codec.reset(subject, scopes, self.call_time_ms())

    def reset_outcome(self, subject: str, reply: Reply) -> list[bytes] | bool:
        """The scopes that a reset must name too; once it is done, if it found a debt. Raises BackendUnavailable."""
        return self.codec.reset_outcome(subject, raise_error(reply))

    def health_calls(self) -> list[tuple[str, Call]]:
        """Subjects and calls that test everything that a decision needs, on every server, and leave nothing behind."""
        return self.dialect.self_test_calls(self.route, self.codec, self.call_time_ms())

    def renewal_calls(self) -> "list[tuple[list[HeldLease], Call]]":
        """The calls that renew every open lease. Send the pending releases before them."""
        self.leases.release_lapsed()
        settled_below = self.lease_ids.settled_below()
        groups: list[list[HeldLease]] = [[]]
        for held in [each for leases in by_record(self.leases.held()).values() for each in leases]:
            # All leases of a record go in one call: a call ends the leases of its records that are not in it.
            full = not self.route.multi_key or len(groups[-1]) >= _MAX_RENEWALS
            if full and groups[-1] and groups[-1][-1][0] != held[0]:
                groups.append([])
            groups[-1].append(held)
        return [(group, self.codec.renew(group, settled_below, self.call_time_ms())) for group in groups if group]

    def apply_renewals(self, group: list[HeldLease], reply: Reply) -> None:
        """Close the leases of `group` that have lost a slot."""
        for (record, _, lease_id, _), renewal in self.codec.parse_renewals(group, raise_error(reply)):
            if renewal is Renewal.ENDED:
                self.leases.end_slot(record, lease_id)
            elif renewal is Renewal.LOST and self.leases.lose(record, lease_id):
                self.lost_leases += 1
                where = self.dialect.name, (server := self.home(record)) and server.name
                _log.warning("a lease was lost on %s at %s, and its slot taken by another", *where)

    def health(self, error: BackendUnavailable | None) -> dict[str, Any]:
        """The health after the calls of `health_calls` succeeded, or failed with `error`."""
        state = "ok" if error is None else str(error)
        leases = {"leases": len(self.leases), "lost_leases": self.lost_leases}
        return {
            "state": state,
            "backend": self.dialect.name,
            **leases,
            "cut_off_tokens": self.settlements.cut_off_tokens,
        }
