"""What was decided without the backend, until the backend knows of it.

Per subject and rate, what is owed of it by then is added to what the backend holds, once, and open leases are entered
there. Where that fails it is tried again, with the very numbers and the same id: it is added once, whatever got lost.
Locally it stays owed until it has drained, so that many outages in a row let no more through than one. A subject that
claimed under several plans owes under each: what two of them have in common, limits of one name, is added once.
Each part of a backend that fails by itself, a server of a cluster, is told by itself: one that is gone holds up no
other.
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

_AT_ONCE = 64
_ID_BYTES = 8
#: Clients without a key choose their addresses, and an outage may last. The backend is not told of more subjects.
_MAX_DECIDED = 100_000
#: Adds what is owed, and returns the lease that was entered for each that is open. Raises BackendUnavailable.
Heal = Callable[[Sequence[LocalUsage], bytes], Sequence[Decision]]


class _Due(NamedTuple):
    """A subject that claimed under a share, and the leases of that share that it had open."""

    subject: str
    share: Share
    open: list[Decision]


class _Portion(NamedTuple):
    """What is added in one call, and the local decisions whose leases are in it, in order."""

    heal_id: bytes
    owed: list[LocalUsage]
    open: list[Decision]


class _Told(NamedTuple):
    """What a limit owed locally when the backend was told of it last, and the rate that counted it."""

    debt: int
    at_ms: int
    rate: Rate

    def left(self, rate: Rate, now_ms: int) -> int:
        """What is still owed of it, as `rate` counts."""
        return drained(rate, convert_debt(rate, self.debt, self.rate.unit), self.at_ms, now_ms)[0]


class Healing:
    """Used by any thread for what was decided, and by one at a time for `heal`.

    `home` says which part of the backend a subject is on, as far as it is known: that may change at any time.
    """

    def __init__(self, local: MemoryBackend, home: Callable[[str], Hashable]) -> None:
        self._local = local
        self._home = home
        self._decided: dict[tuple[str, int], Share] = {}
        #: For each part, what it is to be told next.
        self._due: dict[Hashable, list[_Due]] = {}
        #: For each part, what was sent and is not known to have been added.
        self._sent: dict[Hashable, _Portion] = {}
        self._told: dict[str, dict[str, _Told]] = {}
        self._open: dict[int, Decision] = {}
        #: The lease in the backend of each local one that is open; None while it is on its way there.
        self._entered: dict[int, Decision | None] = {}

    def acquire(self, subject: str, share: Share, cost: int) -> Decision:
        """Decide a claim without the backend."""
        decision = self._local.acquire(subject, share, cost)
        if decision.lease_id:
            self._open[decision.lease_id] = decision
        # At last: whoever takes it from there finds what was charged.
        key = subject, id(share)
        if len(self._decided) < _MAX_DECIDED or key in self._decided:
            self._decided[key] = share
        return decision

    def released(self, decision: Decision) -> Decision | None:
        """A local slot was given back. The lease that was entered for it in the backend, which is to end as well."""
        self._open.pop(decision.lease_id, None)
        return self._entered.pop(decision.lease_id, None)

    def reset(self, subject: str) -> None:
        """Forget what `subject` owes locally."""
        self._local.reset(subject)
        self._told.pop(subject, None)

    def _forget_drained(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for subject, told in self._told.copy().items():
            if not any(each.left(each.rate, now_ms) for each in told.values()):
                self._told.pop(subject, None)

    @property
    def is_due(self) -> bool:
        """Whether the backend does not know of everything."""
        return bool(self._decided or self._due or self._sent)

    def forget(self) -> None:
        """The backend cannot be told."""
        self._decided.clear()
        self._due, self._sent = {}, {}

    def heal(self, heal: Heal, end: Callable[[Decision], Any]) -> None:
        """Add everything. Where `heal` raises, the part goes on where it stopped when this is called again.

        Raises what it raised: a BackendUnavailable in the end, when all the other parts have been told.
        """
        self._forget_drained()
        failed: dict[Hashable, BackendUnavailable] = {}
        while homes := self._take() - failed.keys():
            for home in homes:
                try:
                    while portion := self._next(home):
                        self._done(portion, heal(portion.owed, portion.heal_id), end)
                        del self._sent[home]
                except BackendUnavailable as error:
                    # Its trace holds this frame, which holds it.
                    failed[home] = error.with_traceback(None)
        if failed:
            raise failed.popitem()[1]

    def _next(self, home: Hashable) -> _Portion | None:
        """What a part is told next, as it is owed by now; None where it knows everything."""
        due = self._due.get(home)
        if home not in self._sent and due:
            some = due[-_AT_ONCE:]
            del due[-_AT_ONCE:]
            opened = [decision for each in some for decision in each.open]
            self._sent[home] = _Portion(os.urandom(_ID_BYTES), [self._owed(each) for each in some], opened)
        if not due:
            self._due.pop(home, None)
        return self._sent.get(home)

    def _take(self) -> set[Hashable]:
        """The parts that are to be told: with what was decided since, where one has been told all before."""
        busy, taken = {*self._due, *self._sent}, self._taken()
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
                self._due.setdefault(home, []).append(_Due(key[0], share, opened[key]))
        return {*self._due, *self._sent}

    def _taken(self) -> list[tuple[tuple[str, int], Share]]:
        """What was decided: no step in between loses what is decided meanwhile."""
        taken = []
        with suppress(KeyError):
            while True:
                taken.append(self._decided.popitem())
        return taken

    def _owed(self, due: _Due) -> LocalUsage:
        """What is owed that the backend was not told of: in units of the plan shared, rounded up. From now on it is."""
        now, told, debts = self._local.peek(due.subject, due.share, 1), self._told.setdefault(due.subject, {}), []
        plan = due.share.whole
        for rate, share, debt, at_ms in zip(
            plan.rates, due.share.rates, now.levels[::2], now.levels[1::2], strict=True
        ):
            known = told.get(share.name)
            untold = debt - known.left(share, now.decided_at_ms) if known else debt
            if untold > 0:
                told[share.name] = _Told(debt, at_ms, share)
            debts.append(min(rate.capacity, -(-max(0, untold) * rate.unit // share.unit)))
        return due.subject, plan, debts, [decision.decided_at_ms for decision in due.open]

    def _done(self, portion: _Portion, entered: Sequence[Decision], end: Callable[[Decision], Any]) -> None:
        for decision, lease in zip(portion.open, entered, strict=True):
            self._entered[decision.lease_id] = lease
            if decision.lease_id not in self._open and self._entered.pop(decision.lease_id, None) is not None:
                # It was given back meanwhile.
                end(lease)
