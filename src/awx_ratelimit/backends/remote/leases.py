"""The leases of one process on a server: those that are open and must be renewed, and those to release.

Every step is one step of a dict or a deque, without a lock: see `pending_releases`.

A lease is open until it is released, or until its Decision is collected. A collected lease is not renewed and lapses.
The server renews all leases of one process and record together, so other leases may keep a lapsing one alive.
Therefore a lapsing lease is also released when its ttl is over.

A lease covers a slot in each of one or more records, under one id. It is renewed and released in all of them.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from weakref import ref

from awx_ratelimit.backends.remote.encoding import SEQUENCE
from awx_ratelimit.backends.remote.grants import Grant, LapsingLease, OpenLease, PartGrant, Slots
from awx_ratelimit.backends.remote.pending_claims import HeldLease, PendingClaim, plans_of
from awx_ratelimit.backends.remote.pending_releases import MAX_PENDING, Home, PendingReleases
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.hold_times import MEASURED_FIRST, MEASURED_ONE_IN

_MAX_REFUNDS = 10_000


class Leases:
    """`now_ms` measures how long leases are held.

    `wake` is called when there is something to send. `home` returns the server of a record.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        wake: Callable[[], None],
        home: Callable[[Record], Home],
    ) -> None:
        self._now_ms = now_ms
        self._wake = wake
        self._unmeasured = 0
        self._open: dict[int, OpenLease] = {}
        #: The leases to release.
        self.pending = PendingReleases(wake, home)
        self._lapsing: dict[int, LapsingLease] = {}
        self._abandoned: deque[Decision] = deque(maxlen=_MAX_REFUNDS)

    def grant(self, slots: Slots, decided_at_ms: int, lease_id: int, declared_id: int = 0) -> Grant:
        """The grant of an admitted claim. With a `lease_id`, its lease is now open."""
        if not lease_id:
            return Grant(self, None, declared_id)
        grant = Grant(self, None if lease_id & self._unmeasured else self._since_ms(lease_id), declared_id)
        lease = OpenLease(grant, self._on_collected)
        lease.lease_id, lease.slots, lease.granted_at_ms = lease_id, slots, decided_at_ms
        self._open[lease_id] = lease
        return grant

    def _since_ms(self, lease_id: int) -> int | None:
        if lease_id & SEQUENCE >= MEASURED_FIRST:
            self._unmeasured = MEASURED_ONE_IN - 1
        with suppress(Exception):  # an error of the user's clock must not lose the other grants of the batch
            return self._now_ms()
        return None

    def release(self, decision: Decision) -> int | None:
        """Close the lease of `decision` and release it. Returns how long it was held; None if that was not measured.

        A finalizer may release a decision of a cycle after the decision itself was reported as collected.
        """
        lease_id = decision.lease_id
        lease = self._open.pop(lease_id, None) or self._lapsing.pop(lease_id, None)
        if lease is None:
            return None
        for record, _ in lease.slots:
            self.pending.add(record, lease_id)
        since_ms: int | None = decision.holder.since_ms
        return None if since_ms is None else self._now_ms() - since_ms

    def release_slots(self, slots: Slots, lease_id: int) -> None:
        """Release slots of a lease that is not open."""
        for record, _ in slots:
            self.pending.add(record, lease_id)

    def release_unanswered(self, claim: PendingClaim) -> bool:
        """Release the lease that a claim without an answer may have taken, now and again after its ttl.

        The server may decide the claim after it has handled the first release. Whether there may be a lease.
        """
        slots = tuple(each for each in plans_of(claim) if each[1].slot_bit) if claim[3] else ()
        self.release_slots(slots, claim[3])
        self._let_lapse(slots, claim[3])
        return bool(slots)

    def abandon(self, decision: Decision) -> None:
        """Give back everything that a decision without a caller was granted."""
        if decision.holder is not None:
            self._abandoned.append(decision)
            self._wake()
        if isinstance(decision.holder, PartGrant):
            self.release_slots(decision.holder.slots, decision.lease_id)
        else:
            self.release(decision)

    def take_abandoned(self) -> list[Decision]:
        """Remove and return the abandoned decisions, to be refunded."""
        refunds = []
        with suppress(IndexError):  # another thread may take them at the same time
            while True:
                refunds.append(self._abandoned.popleft())
        return refunds

    def start_settlement(self, decision: Decision) -> bool:
        """Whether to settle `decision`: only the first time, and only if this process was granted it."""
        if not self.can_settle(decision):
            return False
        decision.holder.settled = True
        return True

    def can_settle(self, decision: Decision) -> bool:
        """See KnowsSettled."""
        grant = decision.holder
        return isinstance(grant, Grant) and grant.granted_by is self and not grant.settled

    def count_settlement(self, decision: Decision) -> bool:
        """Whether a caller may count the settlement of `decision`, which was granted here: once."""
        is_first = not decision.holder.counted
        decision.holder.counted = True
        return is_first

    def reopen_settlement(self, decision: Decision) -> None:
        """Let `decision` be settled again: the settlement that was started may have failed."""
        grant = decision.holder
        if isinstance(grant, Grant):
            grant.was_sent, grant.settled = True, False

    def held(self) -> list[HeldLease]:
        """Every slot of every open lease."""
        leases = self._open.copy().items()
        return [(*slot, lease_id, lease.granted_at_ms) for lease_id, lease in leases for slot in lease.slots]

    def release_closed(self, renewed: Iterable[HeldLease]) -> None:
        """Release those of `renewed` again that are closed by now: their renewal may have taken them again."""
        for record, _, lease_id, _ in renewed:
            if lease_id not in self._open:
                self.pending.add(record, lease_id)

    def release_all(self) -> None:
        """Release every lease, including those that are held."""
        for lease_id, lease in self._open.copy().items():
            if self._open.pop(lease_id, None) is not None:
                self.release_slots(lease.slots, lease_id)
        for lease_id, lapsing in self._lapsing.copy().items():
            if self._lapsing.pop(lease_id, None) is not None:
                self.release_slots(lapsing.slots, lease_id)

    def release_lapsed(self) -> None:
        """Release the leases that had no holder for their ttl."""
        now_ms = self._now_ms()
        for lease_id, lease in self._lapsing.copy().items():
            if lease.lapses_at_ms is None:
                lease.lapses_at_ms = now_ms + lease.ttl_ms
            elif lease.lapses_at_ms <= now_ms:
                self._lapsing.pop(lease_id, None)
                self.release_slots(lease.slots, lease_id)

    def lose(self, record: Record, lease_id: int) -> bool:
        """Close a lease that has lost its slot of `record`, and release its other slots. Whether it was open."""
        lease = self._open.pop(lease_id, None)
        if lease is None:
            return False
        self.release_slots(tuple(slot for slot in lease.slots if slot[0] != record), lease_id)
        return True

    def end_slot(self, record: Record, lease_id: int) -> None:
        """Note that the slot of `record` was held for its longest time. The lease keeps its other slots."""
        lease = self._open.get(lease_id)
        if lease is not None:
            lease.slots = tuple(slot for slot in lease.slots if slot[0] != record)
            if not lease.slots:
                self._open.pop(lease_id, None)

    def __len__(self) -> int:
        return len(self._open)

    def _on_collected(self, lease: ref[Grant]) -> None:
        assert isinstance(lease, OpenLease)
        if self._open.pop(lease.lease_id, None) is not None:
            self._let_lapse(lease.slots, lease.lease_id)

    def _let_lapse(self, slots: Slots, lease_id: int) -> None:
        if slots and len(self._lapsing) < MAX_PENDING:
            ttl_ms = max(plan.concurrency.ttl_ms for _, plan in slots if plan.concurrency is not None)
            self._lapsing[lease_id] = LapsingLease(slots, ttl_ms)
