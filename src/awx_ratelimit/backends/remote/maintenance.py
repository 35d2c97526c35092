"""What a process sends although no claim waits for it: releases, renewals, and the decisions of an outage.

The maintenance thread does it, or a caller does. If one server does not answer, the others still get theirs: the first
error is raised at the end.
"""

import logging
import time
from collections.abc import Container, Sequence
from weakref import finalize

from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.backends.remote.dialect import Dialect
from awx_ratelimit.backends.remote.encoding import Moments
from awx_ratelimit.backends.remote.maintenance_thread import MaintenanceThread, ReleaseDelay
from awx_ratelimit.backends.remote.pending_claims import MAX_PERIOD_TRIES, HealEntry, ReleasedLease, period_error
from awx_ratelimit.backends.remote.replies import Reply, raise_error, raise_first
from awx_ratelimit.backends.remote.routing import FanOut, Route
from awx_ratelimit.backends.remote.session import Session
from awx_ratelimit.backends.remote.settlements import OnFailure, PendingSettlement
from awx_ratelimit.core.budget import Record, subject_of
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import ActualCost
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable
from awx_ratelimit.runtime.clock import Clock
from awx_ratelimit.runtime.exits import register_at_exit

_log = logging.getLogger("awx_ratelimit")
#: The most calls of one round trip, where subjects cannot share a call.
_MAX_CALLS = 64
_POLL_S = 0.001
_RETRY_S = 1.0


class Maintenance:
    """Makes `session` and maintains it. See Session for the parameters."""

    def __init__(self, dialect: Dialect, route: Route, prefix: str, clock: Clock | None) -> None:
        self._thread = MaintenanceThread(self._work)
        self.session = Session(dialect, route, prefix, clock, self._thread)
        self._fan_out = FanOut(route, dialect.connection)
        self._failing = self._is_exiting = False
        self._release_delay = ReleaseDelay()
        register_at_exit(self._before_exit)

    def renew_now(self) -> None:
        """Send all releases and renew every open lease. Raises BackendUnavailable."""
        self._send_all()
        self._renew()

    def heal(self, owed: Sequence[LocalUsage], heal_id: bytes) -> list[Decision]:
        """Add the debts of a fallback, once for each `heal_id`, and enter its leases, which are open from now on.

        Waits, so call it from a thread. Raises BackendUnavailable.
        """
        codec = self.session.codec
        # Nothing renews a lease that an unanswered try has entered; the next try enters one with a new id.
        leases = [[(codec.new_lease_id(), at_ms) for at_ms in granted] for _, _, _, granted in owed]
        entries: list[HealEntry] = [
            (record, plan, debts, ids) for (record, plan, debts, _), ids in zip(owed, leases, strict=True)
        ]
        groups = self.session.calls.split(entries)
        moments = Moments(self.session.present.ms())
        calls = [codec.heal(group, heal_id, self.session.call_time_ms(), moments) for group in groups]
        replies = self._fan_out.run(calls)
        for group, reply in zip(groups, replies, strict=True):
            for result in codec.parse_heal(group, raise_error(reply)):
                if isinstance(result, BackendUnavailable):
                    _log.error("decisions made during an outage are lost: %s", result)
        return [self._open_lease(record, plan, *lease) for record, plan, _, ids in entries for lease in ids]

    def settle_soon(self, decision: Decision, actual: ActualCost, failed: OnFailure) -> bool | None:
        """See SettlesSoon. None on a cluster, where a settlement may have to follow its records to another server."""
        if not self.session.route.multi_key:
            return None
        counts = self.session.settlements.queue(decision, actual, failed)
        self._thread.start()
        return counts

    def settle_late(self, decision: Decision, actual: ActualCost) -> None:
        """Settle `decision` after an outage, once, whatever was sent before. Waits; raises BackendUnavailable."""
        settlements = self.session.settlements
        try:
            pending = settlements.of(decision, actual) or []
            self._finish_settling(pending, self._fan_out.run([settlements.call(each) for each in pending]))
        except BaseException:
            settlements.reopen(decision)
            raise

    def _open_lease(self, record: Record, plan: Plan, lease_id: int, at_ms: int) -> Decision:
        holder = self.session.grant((record, plan, 0, lease_id), at_ms, lease_id)
        return Decision(subject_of(record), plan, 0, at_ms, 0, [0, 0] * len(plan.rates), 0, lease_id, holder, 0)

    def flush(self, until_s: float | None = None) -> None:
        """Send what is pending, by `until_s` or within the timeout of a call. Never raises: a failure is sent later."""
        try:
            self._send_all(until_s or time.monotonic() + self.session.route.timeout_s)
        except BackendUnavailable as error:
            self._warn_once(error)

    def close(self, *, with_held: bool = True) -> None:
        """Release every lease, stop the thread and close the connections. Never raises. Harmless twice.

        Takes at most the timeout of one call. With `with_held` it also releases the leases that are held.
        """
        until_s = time.monotonic() + self.session.route.timeout_s
        if with_held:
            self._await_claims(until_s)
            self.session.leases.release_all()
        self.flush(until_s)
        self._thread.stop(max(0.0, until_s - time.monotonic()))
        self._fan_out.close()

    def serve(self, backend: object) -> None:
        """When `backend` is collected, release every lease from the thread and end the thread."""
        finalize(backend, self._thread.finish, self._after_collection).atexit = False

    def _after_collection(self) -> None:
        # Without the backend, the user cannot release what is held.
        self.session.leases.release_all()
        self.flush()
        self._fan_out.close()

    def _before_exit(self) -> None:
        """The process exits, and other threads of it may still claim slots."""
        self.session.lease_ids.refuse_slots()
        self._is_exiting = True
        self.close()

    def _await_claims(self, until_s: float) -> None:
        """Wait for the claims of other threads that are in flight: they may take leases."""
        in_flight = self.session.lease_ids.in_flight()
        while in_flight & self.session.lease_ids.in_flight() and time.monotonic() < until_s:
            time.sleep(_POLL_S)

    def _send_all(self, until_s: float | None = None) -> None:
        errors: list[Reply] = []
        for home in (*self.session.leases.pending.homes(), None):
            try:
                while released := self.session.calls.leases_to_release(home):
                    self._send(released, until_s)
            except BackendUnavailable as error:
                errors.append(error)
        self._send([], until_s)
        raise_first(errors)

    def _work(self) -> float:
        """One turn of the thread; returns the time until the next one. Never raises."""
        due, interval_s = self._thread.is_due(), self._thread.interval_s()
        try:
            self._release_and_renew(due)
        except Exception as error:
            if not self._is_exiting:  # else it may fail on closed connections, and `close` logs a warning
                self._warn_once(error)
            return min(interval_s, _RETRY_S)
        self._failing = False
        if due:
            self._thread.renewed_s = time.monotonic()
        return max(_POLL_S, self._thread.renewed_s + interval_s - time.monotonic())

    def _warn_once(self, error: Exception) -> None:
        """Log the first failure since all was well. At its end, a process may flush and close several times."""
        if not self._failing:
            is_bug = not isinstance(error, AwxRateLimitError)
            _log.warning("leases cannot be released or renewed, and lapse after their ttl: %s", error, exc_info=is_bug)
        self._failing = True

    def _release_and_renew(self, renew: bool) -> None:
        pending, settlements = self.session.leases.pending, self.session.settlements
        released = [lease for home in pending.homes() for lease in self.session.calls.leases_to_release(home)]
        queued = settlements.unsent_ids()
        waits = not renew and bool(released or queued)
        while waits:
            if self._thread.pause(self._release_delay.seconds):
                return  # the backend is closed, which sends them
            released = [lease for lease in released if lease in pending]
            queued &= settlements.unsent_ids()
            waits = self._release_delay.goes_on(bool(released or queued), bool(self.session.lease_ids.in_flight()))
        try:
            self._send(released, only=queued)
            if renew:
                self._renew()
        finally:
            # More releases may be pending than one call takes, and others may have been added.
            others = any(first not in released for home in pending.homes() for first in pending.next(1, home))
            if others or settlements.unsent_ids():
                self._thread.wake()

    def _send(
        self, released: list[ReleasedLease], until_s: float | None = None, only: Container[int] | None = None
    ) -> None:
        """Release leases, and settle what nobody waits for (queued: `only` these ids). Raises BackendUnavailable."""
        session = self.session
        groups = session.calls.split(released)
        calls = [session.codec.acquire((), group, session.call_time_ms()) for group in groups]
        settlements = session.settlements.take_pending()
        calls += map(session.settlements.call, settlements)
        replies: list[Reply] = []
        try:
            for start in range(0, len(calls), _MAX_CALLS):
                replies += self._fan_out.run(calls[start : start + _MAX_CALLS], until_s)
            for group, reply in zip(groups, replies, strict=False):
                if not isinstance(reply, BackendUnavailable):
                    session.leases.pending.remove(group)
            self._finish_settling(*session.settlements.put_back(settlements, replies[len(groups) :]), until_s)
            raise_first(replies)
        finally:
            self._settle_queued(until_s, only)  # last: there may be many, and a process that ends must free its slots

    def _settle_queued(self, until_s: float | None, only: Container[int] | None) -> None:
        settlements = self.session.settlements
        while queued := settlements.next_queued(only=only):
            try:
                replies = self._fan_out.run([settlements.call(each.pending) for each in queued], until_s)
            except BaseException as error:
                settlements.fail(queued, error)
                raise
            settlements.finish(queued, replies)

    def _finish_settling(
        self, pending: list[PendingSettlement], replies: list[Reply], until_s: float | None = None
    ) -> None:
        """Read the replies, and send the settlements again that lacked a calendar period."""
        settlements = self.session.settlements
        for _ in range(MAX_PERIOD_TRIES):
            again = [settlements.settled(*each) for each in zip(pending, replies, strict=True)]
            pending = [each for each in again if each is not None]
            if not pending:
                return
            replies = self._fan_out.run([settlements.call(each) for each in pending], until_s)
        raise period_error("settlement", self.session.dialect.name)

    def _renew(self) -> None:
        """Renew every open lease. Raises BackendUnavailable."""
        session, errors = self.session, []
        renewals = session.renewal_calls()
        calls_at_once = 1 if session.route.multi_key else _MAX_CALLS
        for start in range(0, len(renewals), calls_at_once):
            some = renewals[start : start + calls_at_once]
            replies = self._fan_out.run([call for _, call in some])
            for (group, _), reply in zip(some, replies, strict=True):
                session.leases.release_closed(group)
                if isinstance(reply, BackendUnavailable):
                    errors.append(reply)
                else:
                    session.apply_renewals(group, reply)
            if errors and session.route.multi_key:
                break
        raise_first(errors)
