"""The leases of one process on Redis: what is open and has to be renewed, and what has to be given back.

All but the making of an id is one step of a dict or a deque, without a lock and without iterating over what may change:
a release comes from cancelled tasks, finalizers and signal handlers. A lease is open until it is released, or until the
Decision that carries it is collected: then it is renewed no more, and lapses. The server lets the leases that a process
has of one subject live on together; so what lapses is given back at last, for others may have kept it alive.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TypeAlias
from weakref import ref

from awx_ratelimit.backends.redis.batch import process_ends
from awx_ratelimit.backends.redis.codec import HeldLease, PendingClaim, ReleasedLease
from awx_ratelimit.backends.redis.grants import Grant, Lapsing, Open
from awx_ratelimit.backends.redis.wire import SEQUENCE
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import MEASURED_FIRST, MEASURED_ONE_IN
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.runtime.exits import sleep_until_exit

#: A server, or None while it is not known which.
Home: TypeAlias = Hashable
#: What a process that cannot reach its server remembers to give back; what is beyond it lapses.
_MAX_PENDING = 100_000
_MAX_REFUNDS = 10_000
#: What one call can give back.
_MAX_PER_CALL = 60_000


class Leases:
    """`now_ms` measures how long leases are held; `wake` is called when there is something to send.

    `new_lease_id` makes ids, each above those before. `home` says which server a subject is on: each has its own list.
    """

    def __init__(
        self,
        new_lease_id: Callable[[], int],
        now_ms: Callable[[], int],
        wake: Callable[[], None],
        home: Callable[[str], Home],
    ) -> None:
        self._new_lease_id = new_lease_id
        self._now_ms = now_ms
        self._wake = wake
        self._home = home
        self._unmeasured = 0
        self._open: dict[int, Open] = {}
        self._in_flight: dict[int, None] = {}
        self._making = threading.Lock()
        self._ending = False
        # By identity: what is said once more while the first is under way has to be sent once more.
        self._released: dict[Home, dict[int, ReleasedLease]] = {}
        self._lapsing: dict[int, Lapsing] = {}
        self._abandoned: deque[Decision] = deque(maxlen=_MAX_REFUNDS)

    def new(self, plan: Plan) -> int:
        """The id of the lease that a claim may take. From now on the claim is in flight.

        Raises BackendUnavailable for a claim of a slot at the end of this process.
        """
        # A settled_below() between the two would say of a claim that is about to be sent that it is over.
        with self._making:
            if not (self._ending and plan.slot_bit):
                lease_id = self._new_lease_id()
                self._in_flight[lease_id] = None
                return lease_id
        sleep_until_exit()
        raise process_ends()

    def answered(self, lease_id: int) -> None:
        """It was answered, or its caller has gone."""
        self._in_flight.pop(lease_id, None)

    def settled_below(self) -> int:
        """An id below which no claim is in flight: a lease below it that is not open is over."""
        with self._making:
            return min((self._new_lease_id(), *list(self._in_flight)[:1]))

    def grant(self, asked: PendingClaim, decided_at_ms: int, lease_id: int) -> Grant:
        """The grant of an admitted claim; with a `lease_id` its lease is open from now on."""
        if not lease_id:
            return Grant(self, None)
        grant = Grant(self, None if lease_id & self._unmeasured else self._since_ms(lease_id))
        lease = Open(grant, self._collected)
        lease.asked, lease.granted_at_ms = asked, decided_at_ms
        self._open[lease_id] = lease
        return grant

    def _since_ms(self, lease_id: int) -> int | None:
        if lease_id & SEQUENCE >= MEASURED_FIRST:
            self._unmeasured = MEASURED_ONE_IN - 1
        with suppress(Exception):  # a clock of the user's: what is granted beside this claim stays granted
            return self._now_ms()
        return None

    def release(self, decision: Decision) -> int | None:
        """Close the lease of `decision`, to be sent. For how long it was held; None where that was not measured.

        A finalizer may come with a decision that was said to be collected, with all of a cycle that they were in.
        """
        lease_id = decision.lease_id
        if self._open.pop(lease_id, None) is None and self._lapsing.pop(lease_id, None) is None:
            return None
        self.end(decision.subject, lease_id)
        since_ms: int | None = decision.holder.since_ms
        return None if since_ms is None else self._now_ms() - since_ms

    def unanswered(self, subject: str, plan: Plan, lease_id: int) -> None:
        """Give back the lease that a claim without an answer may have, and once more when it would have lapsed.

        What was sent may be decided later than what gives it back.
        """
        self.end(subject, lease_id)
        self._let_lapse(subject, plan, lease_id)

    def end(self, subject: str, lease_id: int) -> None:
        """Give back a lease that is not open."""
        home = self._home(subject)
        ending = self._released.get(home)
        if ending is None:
            ending = self._released.setdefault(home, {})
        if len(ending) < _MAX_PENDING:
            released = subject, lease_id
            ending[id(released)] = released
        self._wake()

    def abandon(self, decision: Decision) -> None:
        """Give back all of a decision that nobody waits for any more."""
        if decision.holder is not None:
            self._abandoned.append(decision)
            self._wake()
        self.release(decision)

    def refunds(self, decision: Decision) -> bool:
        """Whether to refund `decision`: once, and only what was granted here, not what a parent process was granted."""
        grant = decision.holder
        if not isinstance(grant, Grant) or grant.granted_by is not self or grant.refunded:
            return False
        grant.refunded = True
        return True

    def released(self, most: int, home: Home, batch: Iterable[PendingClaim] = ()) -> list[ReleasedLease]:
        """Leases there that nobody has said to be given back yet. Two calls may have the same one: it ends once.

        All whose subject is decided next, in `batch`, and as many of others as make up `most`.
        """
        released = list(ending.copy().values()) if (ending := self._released.get(home)) else []
        if len(released) <= most:
            return released
        subjects = {subject for subject, _, _, _ in batch}
        first = [lease for lease in released if lease[0] in subjects][:_MAX_PER_CALL]
        others = (lease for lease in released if lease[0] not in subjects)
        return first + list(islice(others, max(0, most - len(first))))

    def homes(self) -> list[Home]:
        """Wherever leases were ever given back."""
        return list(self._released.copy())

    def is_ending(self, released: ReleasedLease) -> bool:
        """Whether nobody has said yet that it was given back."""
        return id(released) in self._released.get(self._home(released[0]), ())

    def ended(self, released: list[ReleasedLease]) -> None:
        """These very ones of `released`, all of one server, are known to be given back."""
        ending = self._released.get(self._home(released[0][0])) if released else None
        if ending:
            for lease in released:
                ending.pop(id(lease), None)

    def resettle(self) -> None:
        """Subjects have gone from one server to another."""
        for home, ending in self._released.copy().items():
            for released in ending.copy().values():
                now = self._home(released[0])
                if now is not home:
                    self._released.setdefault(now, {})[id(released)] = released
                    ending.pop(id(released), None)

    def abandoned(self) -> list[Decision]:
        """Decisions to refund now, and no later."""
        refunds = []
        with suppress(IndexError):  # another thread may be faster
            while True:
                refunds.append(self._abandoned.popleft())
        return refunds

    def held(self) -> list[HeldLease]:
        """Every open lease."""
        return [(*lease.asked[:2], lease_id, lease.granted_at_ms) for lease_id, lease in self._open.copy().items()]

    def end_closed(self, held: Iterable[HeldLease]) -> None:
        """Give those of `held` back once more that are open no longer: their renewal may have taken them again."""
        for subject, _, lease_id, _ in held:
            if lease_id not in self._open:
                self.end(subject, lease_id)

    def under_way(self) -> set[int]:
        """The ids of the leases that claims under way may be granted."""
        return set(self._in_flight.copy())

    def end_claims(self) -> None:
        """Let no claim take a slot any more: other threads go on while this process ends, and nobody would end it."""
        with self._making:
            self._ending = True

    def end_all(self) -> None:
        """Give back every lease, also those that are held."""
        for lease_id, lease in self._open.copy().items():
            if self._open.pop(lease_id, None) is not None:
                self.end(lease.asked[0], lease_id)
        for lease_id, lapsing in self._lapsing.copy().items():
            if self._lapsing.pop(lease_id, None) is not None:
                self.end(lapsing.subject, lease_id)

    def end_lapsed(self) -> None:
        """Give back the leases that nobody had for their ttl."""
        now_ms = self._now_ms()
        for lease_id, lease in self._lapsing.copy().items():
            if lease.lapses_at_ms is None:
                lease.lapses_at_ms = now_ms + lease.ttl_ms
            elif lease.lapses_at_ms <= now_ms:
                self._lapsing.pop(lease_id, None)
                self.end(lease.subject, lease_id)

    def forget(self, lease_id: int) -> bool:
        """Close a lease that the server has no more. Whether it was still open."""
        return self._open.pop(lease_id, None) is not None

    def __len__(self) -> int:
        return len(self._open)

    def _collected(self, lease: ref[Grant]) -> None:
        assert isinstance(lease, Open)
        subject, plan, _, lease_id = lease.asked
        if self._open.pop(lease_id, None) is not None:
            self._let_lapse(subject, plan, lease_id)

    def _let_lapse(self, subject: str, plan: Plan, lease_id: int) -> None:
        if plan.concurrency is not None and len(self._lapsing) < _MAX_PENDING:
            self._lapsing[lease_id] = Lapsing(subject, plan.concurrency.ttl_ms)
