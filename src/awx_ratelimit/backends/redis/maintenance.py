"""What a process sends though no claim waits for it: leases that are given back and renewed, and what an outage left.

It is done by the keeper's thread, and by whoever asks for it. What one server does not answer does not keep the rest
from the others: the first error is raised when all is sent.
"""

import logging
import time
from collections.abc import Sequence
from weakref import finalize

from awx_ratelimit.backends.base import Clock, LocalUsage
from awx_ratelimit.backends.redis.codec import Call, HealEntry, ReleasedLease
from awx_ratelimit.backends.redis.connection import Reply, answered
from awx_ratelimit.backends.redis.fan_out import FanOut
from awx_ratelimit.backends.redis.maintenance_thread import MaintenanceThread, ReleaseDelay
from awx_ratelimit.backends.redis.routing import Route
from awx_ratelimit.backends.redis.session import Session
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable
from awx_ratelimit.runtime.exits import register_at_exit

_log = logging.getLogger("awx_ratelimit")
#: The most calls of one round trip, where subjects cannot share a call.
_MAX_CALLS = 64
_LOOK_AGAIN_S = 0.001


class Maintenance:
    """Keeps `session` up, which is made here. See Session."""

    def __init__(self, route: Route, prefix: str, clock: Clock | None) -> None:
        self._thread = MaintenanceThread(self._turn)
        self.session = Session(route, prefix, clock, self._thread)
        self._fan_out = FanOut(route)
        self._troubled = False
        self._linger = ReleaseDelay()
        register_at_exit(self._end)

    def renew_now(self) -> None:
        """One renewal of every open lease. Raises BackendUnavailable."""
        self._send_all()
        self._renew()

    def heal(self, owed: Sequence[LocalUsage], heal_id: bytes) -> list[Decision]:
        """Add what a fallback has charged, once for each `heal_id`, and enter its leases, which are open from now on.

        It waits, and may be called from any thread. Raises BackendUnavailable.
        """
        codec = self.session.codec
        # What a try without an answer has entered is renewed by nobody, and entered again by the next renewal.
        leases = [[(codec.new_lease_id(), at_ms) for at_ms in granted] for _, _, _, granted in owed]
        healed: list[HealEntry] = [
            (subject, plan, debts, ids) for (subject, plan, debts, _), ids in zip(owed, leases, strict=True)
        ]
        groups = self.session.apart(healed)
        answers = self._fan_out.run([codec.heal(group, heal_id, self.session.sent_ms()) for group in groups])
        for group, answer in zip(groups, answers, strict=True):
            for done in codec.heals(group, answered(answer)):
                if isinstance(done, BackendUnavailable):
                    _log.error("what was decided without redis is lost: %s", done)
        return [self._entered(subject, plan, *lease) for subject, plan, _, ids in healed for lease in ids]

    def _entered(self, subject: str, plan: Plan, lease_id: int, at_ms: int) -> Decision:
        holder = self.session.granted((subject, plan, 0, lease_id), at_ms, lease_id)
        return Decision(subject, plan, 0, at_ms, 0, [0, 0] * len(plan.rates), 0, lease_id, holder, 0)

    def flush(self) -> None:
        """Send what waits for it, within the time of one call. It raises nothing: what fails is sent later."""
        self._flush(time.monotonic() + self.session.route.timeout_s)

    def close(self, *, with_held: bool = True) -> None:
        """Give back every lease, also those that are held, and end the thread and its connections. It raises nothing.

        All of it together takes the time of one call at most. Harmless twice.
        """
        until_s = time.monotonic() + self.session.route.timeout_s
        if with_held:
            self._settle_claims(until_s)
            self.session.leases.end_all()
        self._flush(until_s)
        self._thread.stop(until_s)
        self._fan_out.close()

    def serve(self, backend: object) -> None:
        """When `backend` is collected, give back every lease, from the thread, and end it."""
        finalize(backend, self._thread.leave, self._leave).atexit = False

    def _leave(self) -> None:
        # Without the backend nobody can release what is held.
        self.session.leases.end_all()
        self.flush()
        self._fan_out.close()

    def _end(self) -> None:
        """This process ends, and other threads of it may still ask for slots."""
        self.session.leases.end_claims()
        # The thread may fail now that the connections are closed; below is a warning if one is due.
        self._troubled = True
        self.close()

    def _flush(self, until_s: float) -> None:
        try:
            self._send_all(until_s)
        except BackendUnavailable as error:
            _log.warning("leases cannot be given back now, and lapse after their ttl: %s", error)

    def _settle_claims(self, until_s: float) -> None:
        """Wait for the claims of other threads that are under way: they may be granted leases."""
        under_way = self.session.leases.under_way()
        while under_way & self.session.leases.under_way() and time.monotonic() < until_s:
            time.sleep(_LOOK_AGAIN_S)

    def _send_all(self, until_s: float | None = None) -> None:
        errors: list[Reply] = []
        for home in (*self.session.leases.homes(), None):
            try:
                while released := self.session.released(home):
                    self._send(released, until_s)
            except BackendUnavailable as error:
                errors.append(error)
        self._send([], until_s)
        _raise_first(errors)

    def _released(self) -> list[ReleasedLease]:
        return [lease for home in self.session.leases.homes() for lease in self.session.released(home)]

    def _turn(self, renew: bool) -> bool:
        """One turn of the thread, and whether all was done. It raises nothing, and says once that it cannot do it."""
        try:
            self._take_turn(renew)
        except Exception as error:
            if not self._troubled:
                known = isinstance(error, AwxRateLimitError)
                _log.warning("leases cannot be given back or renewed: %s", error, exc_info=not known)
            self._troubled = True
            return False
        self._troubled = False
        return True

    def _take_turn(self, renew: bool) -> None:
        released = self._released()
        if released and not renew:
            time.sleep(self._linger.seconds)
        late = [lease for lease in released if self.session.leases.is_ending(lease)]
        self._linger.went(late=bool(late))
        try:
            self._send(late)
            if renew:
                self._renew()
        finally:
            if self._has_more(released):
                self._thread.wake()

    def _has_more(self, tried: list[ReleasedLease]) -> bool:
        """Whether any server has more to be given back than goes at once, or came meanwhile."""
        leases = self.session.leases
        firsts = [first for home in leases.homes() for first in leases.released(1, home)]
        return any(first not in tried for first in firsts)

    def _send(self, released: list[ReleasedLease], until_s: float | None = None) -> None:
        """Give these leases back, and all that was abandoned. Raises BackendUnavailable."""
        session = self.session
        groups = session.apart(released)
        calls = [session.codec.acquire((), group, session.sent_ms()) for group in groups]
        calls += [call for decision in session.leases.abandoned() for call in session.refund(decision)]
        answers = self._run(calls, until_s)
        for group, answer in zip(groups, answers, strict=False):
            if not isinstance(answer, BackendUnavailable):
                session.leases.ended(group)
        _raise_first(answers)

    def _renew(self) -> None:
        """Renew every open lease. Raises BackendUnavailable."""
        session, errors = self.session, []
        renewals = session.renewals()
        at_once = 1 if session.route.together else _MAX_CALLS
        for start in range(0, len(renewals), at_once):
            some = renewals[start : start + at_once]
            answers = self._fan_out.run([call for _, call in some])
            for (group, _), answer in zip(some, answers, strict=True):
                session.leases.end_closed(group)
                if isinstance(answer, BackendUnavailable):
                    errors.append(answer)
                else:
                    session.renewed(group, answer)
            if errors and session.route.together:
                break
        _raise_first(errors)

    def _run(self, calls: list[Call], until_s: float | None) -> list[Reply]:
        answers: list[Reply] = []
        for start in range(0, len(calls), _MAX_CALLS):
            answers += self._fan_out.run(calls[start : start + _MAX_CALLS], until_s)
        return answers


def _raise_first(answers: Sequence[Reply]) -> None:
    for answer in answers:
        answered(answer)
