"""Records local decisions during an outage and adds them to the backend afterwards.

For each record and rate, the debt that has not drained yet is added to the backend once, and open leases are entered
there, for every record of a claim. A failed try is repeated with the same numbers and the same id, so the backend adds
them only once. The debts also stay in the local state until they drain, so several outages in a row admit no more than
one. A record may owe under several plans; the debt of limits with the same name is added once. Each part of the
backend, such as a server of a cluster, is reconciled separately, so one that is down does not delay the others.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.local_share import Share
from awx_ratelimit.core.bucket import convert_debt, drained
from awx_ratelimit.core.budget import Budget, Record, ScopedSubject, subject_of
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim, joint_claim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import REQUESTS, Rate
from awx_ratelimit.core.settlement import ActualCost, charges
from awx_ratelimit.errors import BackendUnavailable

_BATCH_SIZE = 64
_ID_BYTES = 8
#: Clients without a key choose their addresses, and an outage may last. Further records are not reconciled.
_MAX_DECIDED = 100_000
#: Adds debts with an id, and returns the entered lease of each open lease. Raises BackendUnavailable.
Heal = Callable[[Sequence[LocalUsage], bytes], Sequence[Decision]]


#: A local lease in one record.
_Slot: TypeAlias = tuple[int, Record]


class _OpenSlot(NamedTuple):
    slot: _Slot
    granted_at_ms: int


class _Entry(NamedTuple):
    """A record that was claimed under a share, and its open slots of that share."""

    record: Record
    share: Share
    open: list[_OpenSlot]


class _Batch(NamedTuple):
    """The debts of one call, and the local slots that are in it, in order."""

    heal_id: bytes
    owed: list[LocalUsage]
    open: list[_Slot]


class _Reported(NamedTuple):
    """The local debt of a limit when it was last reported to the backend, and the rate that counted it."""

    debt: int
    at_ms: int
    rate: Rate

    def left(self, rate: Rate, now_ms: int) -> int:
        """The part of it that has not drained, in the unit of `rate`."""
        return drained(rate, convert_debt(rate, self.debt, self.rate.unit, self.rate.capacity), self.at_ms, now_ms)[0]


class Reconciliation:
    """Any thread may record decisions; one thread at a time may call `run`.

    `home` says which part of the backend a record is on. That may change at any time.
    """

    def __init__(self, local: MemoryBackend, home: Callable[[Record], Hashable]) -> None:
        self._local = local
        self._home = home
        self._decided: dict[tuple[Record, int], Share] = {}
        #: What to report next, by part.
        self._queued: dict[Hashable, list[_Entry]] = {}
        #: What was sent and may not have been added, by part.
        self._in_flight: dict[Hashable, _Batch] = {}
        self._reported: dict[Record, dict[str, _Reported]] = {}
        self._open: dict[int, Decision] = {}
        #: The backend's lease for each open local slot; None while it is being entered.
        self._entered: dict[_Slot, Decision | None] = {}

    def acquire(self, subject: str, share: Share, cost: int) -> Decision:
        """Decide a claim locally, and record it."""
        return self._recorded(self._local.acquire(subject, share, cost))

    def acquire_joint(self, claim: JointClaim) -> Decision:
        """Decide a claim of shares locally, and record it."""
        return self._recorded(self._local.acquire_joint(claim))

    def settle(self, decision: Decision, actual: ActualCost) -> bool:
        """Settle a local decision locally. What it cost more is added to the backend, too. Returns as Backend does."""
        is_first = self._local.settle(decision, actual)
        self._record(decision)
        return is_first

    def _recorded(self, decision: Decision) -> Decision:
        if decision.lease_id:
            self._open[decision.lease_id] = decision
        # Recorded last: a thread that takes the record must find the charge.
        if decision.holder is not None:
            self._record(decision)
        return decision

    def _record(self, decision: Decision) -> None:
        for record, charge, _ in charges(decision):
            key = record, id(charge.plan)
            if len(self._decided) < _MAX_DECIDED or key in self._decided:
                self._decided[key] = charge.plan  # type: ignore[assignment]  # local decisions have shares

    def on_release(self, decision: Decision) -> list[Decision]:
        """A local lease was released. Returns its leases in the backend, which must be released too."""
        self._open.pop(decision.lease_id, None)
        leases = [self._entered.pop((decision.lease_id, record), None) for record, _ in _slots(decision)]
        return [lease for lease in leases if lease is not None]

    def reset(self, subject: str, scope: str | None) -> bool:
        """Clear the local debts of `subject` in one scope, or in all. Returns whether there were any."""
        found = self._local.reset(subject, scope)
        for record in self._reported.copy() if scope is None else [ScopedSubject(subject, scope)]:
            if subject_of(record) == subject:
                self._reported.pop(record, None)
        return found

    @property
    def is_pending(self) -> bool:
        """Whether there is something to add to the backend."""
        return bool(self._decided or self._queued or self._in_flight)

    def discard(self) -> None:
        """Drop all records: they cannot be added to the backend."""
        self._decided.clear()
        self._queued, self._in_flight = {}, {}

    def run(self, heal: Heal, release: Callable[[Decision], Any]) -> None:
        """Add everything to the backend. After an error, the next run goes on where this one stopped.

        Raises what `heal` raised: a BackendUnavailable only after all other parts were tried.
        """
        self._forget_drained()
        failed: dict[Hashable, BackendUnavailable] = {}
        while homes := self._queue_decided() - failed.keys():
            for home in homes:
                try:
                    while batch := self._next_batch(home):
                        self._enter_leases(batch, heal(batch.owed, batch.heal_id), release)
                        del self._in_flight[home]
                except BackendUnavailable as error:
                    # Its traceback would hold this frame, which holds the error.
                    failed[home] = error.with_traceback(None)
        if failed:
            raise failed.popitem()[1]

    def _forget_drained(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for record, reported in self._reported.copy().items():
            if not any(each.left(each.rate, now_ms) for each in reported.values()):
                self._reported.pop(record, None)

    def _next_batch(self, home: Hashable) -> _Batch | None:
        """The batch in flight, or a new one with the debts of this moment; None if nothing is left."""
        queued = self._queued.get(home)
        if home not in self._in_flight and queued:
            some = queued[-_BATCH_SIZE:]
            del queued[-_BATCH_SIZE:]
            opened = [slot for entry in some for slot, _ in entry.open]
            self._in_flight[home] = _Batch(os.urandom(_ID_BYTES), [self._unreported(entry) for entry in some], opened)
        if not queued:
            self._queued.pop(home, None)
        return self._in_flight.get(home)

    def _queue_decided(self) -> set[Hashable]:
        """Queue the recorded usage of each part whose queue is empty. Returns the parts with something to report."""
        busy, taken, opened = {*self._queued, *self._in_flight}, self._take_decided(), self._open_slots()
        for key, share in taken:
            home = self._home(key[0])
            if home in busy:
                self._decided[key] = share
            else:
                self._entered.update((slot, None) for slot, _ in opened[key])
                self._queued.setdefault(home, []).append(_Entry(key[0], share, opened[key]))
        return {*self._queued, *self._in_flight}

    def _open_slots(self) -> dict[tuple[Record, int], list[_OpenSlot]]:
        """The open slots that are not in the backend yet, by record and share."""
        opened = defaultdict(list)
        for lease_id, decision in self._open.copy().items():
            for record, plan in _slots(decision):
                if (lease_id, record) not in self._entered:
                    opened[record, id(plan)].append(_OpenSlot((lease_id, record), decision.decided_at_ms))
        return opened

    def _take_decided(self) -> list[tuple[tuple[Record, int], Share]]:
        """Remove and return the recorded usage, one by one: other threads add to them meanwhile."""
        taken = []
        with suppress(KeyError):
            while True:
                taken.append(self._decided.popitem())
        return taken

    def _unreported(self, entry: _Entry) -> LocalUsage:
        """The unreported debts, rounded up, in the units of the whole plan. From now on they count as reported."""
        now_ms, levels = self._local_levels(entry.record, entry.share)
        reported, debts = self._reported.setdefault(entry.record, {}), []
        plan = entry.share.whole
        for index, (rate, share) in enumerate(zip(plan.rates, entry.share.rates, strict=True)):
            debt, at_ms = drained(share, levels[2 * index], levels[2 * index + 1], now_ms)
            known = reported.get(share.name)
            unreported = debt - known.left(share, now_ms) if known else debt
            if unreported > 0:
                reported[share.name] = _Reported(debt, at_ms, share)
            debts.append(min(rate.capacity, -(-max(0, unreported) * rate.unit // share.unit)))
        return entry.record, plan, debts, [granted_at_ms for _, granted_at_ms in entry.open]

    def _local_levels(self, record: Record, share: Share) -> tuple[int, Sequence[int]]:
        """The time, and the local levels under `share`."""
        subject, scope = (record, None) if isinstance(record, str) else record
        now = self._local.peek_joint(joint_claim((Budget(subject, share, scope),), {REQUESTS: 0}))
        return now.decided_at_ms, now.levels

    def _enter_leases(self, batch: _Batch, entered: Sequence[Decision], release: Callable[[Decision], Any]) -> None:
        for slot, lease in zip(batch.open, entered, strict=True):
            self._entered[slot] = lease
            if slot[0] not in self._open and self._entered.pop(slot, None) is not None:
                # The local lease was released in the meantime.
                release(lease)


def _slots(decision: Decision) -> list[tuple[Record, Plan]]:
    """The records in which a local decision has a slot, and their shares."""
    if not decision.lease_id:
        return []
    return [(record, charge.plan) for record, charge, exceeded in charges(decision) if charge.plan.slot_bit & ~exceeded]
