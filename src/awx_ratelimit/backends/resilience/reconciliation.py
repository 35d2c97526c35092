"""Records local decisions during an outage and adds them to the backend afterwards.

For each subject and rate, the debt that has not drained yet is added to the backend once, and open leases are entered
there. A failed try is repeated with the same numbers and the same id, so the backend adds them only once. The debts
also stay in the local state until they drain, so several outages in a row admit no more than one. A subject may owe
under several plans; the debt of limits with the same name is added once. Each part of the backend, such as a server of
a cluster, is reconciled separately, so one that is down does not delay the others.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.local_share import Share
from awx_ratelimit.core.bucket import convert_debt, drained
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.errors import BackendUnavailable

_BATCH_SIZE = 64
_ID_BYTES = 8
#: Clients without a key choose their addresses, and an outage may last. Further subjects are not reconciled.
_MAX_DECIDED = 100_000
#: Adds debts with an id, and returns the entered lease of each open lease. Raises BackendUnavailable.
Heal = Callable[[Sequence[LocalUsage], bytes], Sequence[Decision]]


class _Entry(NamedTuple):
    """A subject that claimed under a share, and its open leases of that share."""

    subject: str
    share: Share
    open: list[Decision]


class _Batch(NamedTuple):
    """The debts of one call, and the local decisions whose leases are in it, in order."""

    heal_id: bytes
    owed: list[LocalUsage]
    open: list[Decision]


class _Reported(NamedTuple):
    """The local debt of a limit when it was last reported to the backend, and the rate that counted it."""

    debt: int
    at_ms: int
    rate: Rate

    def left(self, rate: Rate, now_ms: int) -> int:
        """The part of it that has not drained, in the unit of `rate`."""
        return drained(rate, convert_debt(rate, self.debt, self.rate.unit), self.at_ms, now_ms)[0]


class Reconciliation:
    """Any thread may record decisions; one thread at a time may call `run`.

    `home` says which part of the backend a subject is on. That may change at any time.
    """

    def __init__(self, local: MemoryBackend, home: Callable[[str], Hashable]) -> None:
        self._local = local
        self._home = home
        self._decided: dict[tuple[str, int], Share] = {}
        #: What to report next, by part.
        self._queued: dict[Hashable, list[_Entry]] = {}
        #: What was sent and may not have been added, by part.
        self._in_flight: dict[Hashable, _Batch] = {}
        self._reported: dict[str, dict[str, _Reported]] = {}
        self._open: dict[int, Decision] = {}
        #: The backend's lease for each open local lease; None while it is being entered.
        self._entered: dict[int, Decision | None] = {}

    def acquire(self, subject: str, share: Share, cost: int) -> Decision:
        """Decide a claim locally, and record it."""
        decision = self._local.acquire(subject, share, cost)
        if decision.lease_id:
            self._open[decision.lease_id] = decision
        # Recorded last: a thread that takes the record must find the charge.
        key = subject, id(share)
        if len(self._decided) < _MAX_DECIDED or key in self._decided:
            self._decided[key] = share
        return decision

    def on_release(self, decision: Decision) -> Decision | None:
        """A local lease was released. Returns its lease in the backend, which must be released too."""
        self._open.pop(decision.lease_id, None)
        return self._entered.pop(decision.lease_id, None)

    def reset(self, subject: str) -> None:
        """Clear the local debts of `subject`."""
        self._local.reset(subject)
        self._reported.pop(subject, None)

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
        for subject, reported in self._reported.copy().items():
            if not any(each.left(each.rate, now_ms) for each in reported.values()):
                self._reported.pop(subject, None)

    def _next_batch(self, home: Hashable) -> _Batch | None:
        """The batch in flight, or a new one with the debts of this moment; None if nothing is left."""
        queued = self._queued.get(home)
        if home not in self._in_flight and queued:
            some = queued[-_BATCH_SIZE:]
            del queued[-_BATCH_SIZE:]
            opened = [decision for entry in some for decision in entry.open]
            self._in_flight[home] = _Batch(os.urandom(_ID_BYTES), [self._unreported(entry) for entry in some], opened)
        if not queued:
            self._queued.pop(home, None)
        return self._in_flight.get(home)

    def _queue_decided(self) -> set[Hashable]:
        """Queue the recorded subjects of each part whose queue is empty. Returns the parts with something to report."""
        busy, taken = {*self._queued, *self._in_flight}, self._take_decided()
        opened = defaultdict(list)
        for lease_id, decision in self._open.copy().items():
            if lease_id not in self._entered:
                opened[decision.subject, id(decision.plan)].append(decision)
        for key, share in taken:
            home = self._home(key[0])
            if home in busy:
                self._decided[key] = share
            else:
                self._entered.update((decision.lease_id, None) for decision in opened[key])
                self._queued.setdefault(home, []).append(_Entry(key[0], share, opened[key]))
        return {*self._queued, *self._in_flight}

    def _take_decided(self) -> list[tuple[tuple[str, int], Share]]:
        """Remove and return the recorded subjects, one by one: other threads add to them meanwhile."""
        taken = []
        with suppress(KeyError):
            while True:
                taken.append(self._decided.popitem())
        return taken

    def _unreported(self, entry: _Entry) -> LocalUsage:
        """The unreported debts, rounded up, in the units of the whole plan. From now on they count as reported."""
        now, debts = self._local.peek(entry.subject, entry.share, 1), []
        reported = self._reported.setdefault(entry.subject, {})
        plan = entry.share.whole
        for rate, share, debt, at_ms in zip(
            plan.rates, entry.share.rates, now.levels[::2], now.levels[1::2], strict=True
        ):
            known = reported.get(share.name)
            unreported = debt - known.left(share, now.decided_at_ms) if known else debt
            if unreported > 0:
                reported[share.name] = _Reported(debt, at_ms, share)
            debts.append(min(rate.capacity, -(-max(0, unreported) * rate.unit // share.unit)))
        return entry.subject, plan, debts, [decision.decided_at_ms for decision in entry.open]

    def _enter_leases(self, batch: _Batch, entered: Sequence[Decision], release: Callable[[Decision], Any]) -> None:
        for decision, lease in zip(batch.open, entered, strict=True):
            self._entered[decision.lease_id] = lease
            if decision.lease_id not in self._open and self._entered.pop(decision.lease_id, None) is not None:
                # The local lease was released in the meantime.
                release(lease)
