"""One process's side of a host's file: its ledgers, the opened file, and the thread. It ends with a fork.

A ledger's leases are this process's truth about a subject, so there is one ledger for each subject that holds any. The
path may come to lead to another file, because somebody removed it or put another one there: then everything goes on
in that one, and what is held is written down there.
"""

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from struct import error as StructError  # noqa: N812  # what it is: an error class
from threading import Lock
from typing import Any, TypeVar

from awx_ratelimit.backends._host_file import FileDamaged, HostFile
from awx_ratelimit.backends._host_keeper import Keeper
from awx_ratelimit.backends._host_leases import HostLeases
from awx_ratelimit.backends._host_locks import Shut, Stripe
from awx_ratelimit.backends._host_record import HostLedger
from awx_ratelimit.backends._host_table import Table
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
#: How many subjects a process remembers the places of.
_MOST_KNOWN = 10_000
_SWEPT_A_LOOK = 8
SEQUENCE_BITS = 48
_Answer = TypeVar("_Answer")


class HostSession:
    """See the module. `now_ms` is the time."""

    def __init__(self, path: str, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._known: dict[str, HostLedger] = {}
        self._round: list[str] = []
        self._late: deque[str] = deque()
        self._keeper = Keeper(self._look)
        self._looks = 0
        self._started = self._closed = False
        self._table: Table | None = None
        self._opening = Lock()
        #: A number that no other lease has.
        self.new_lease_id = count((int.from_bytes(os.urandom(8)) << SEQUENCE_BITS) + 1).__next__
        #: What the thread cannot do, and why; None where all is well.
        self.trouble: str | None = None

    def open(self) -> Table:
        """The subjects in the file. Raises BackendMisconfigured where it cannot be used."""
        with self._opening:
            if self._table is None:
                if self._closed:
                    raise BackendUnavailable(f"{self._path}: it was closed")
                self._table = _opened(self._path)
                # What is held is not known there yet.
                self._late.extend(subject for subject, ledger in self._known.copy().items() if ledger.holds())
            return self._table

    def run(self, subject: str, act: Callable[..., _Answer], *args: Any) -> _Answer:
        """What ``act(ledger, *args)`` answers, alone with the ledger of `subject`. Raises BackendUnavailable."""
        while True:
            table = self._table or self.open()
            ledger = self._known.get(subject) or self._met(subject, table)
            if ledger.table is not table:
                ledger.stripe.run_apart(_move, ledger, table)
            stripe: Stripe = ledger.stripe
            try:
                return stripe.run(act, ledger, *args)
            except Shut:
                # The file was replaced, or this process has another ledger for the subject by now.
                continue

    def _met(self, subject: str, table: Table) -> HostLedger:
        if not self._started:
            self._started = True
            self._keeper.start()
        if len(self._known) >= _MOST_KNOWN:
            self._leave_two()
        ledger = HostLedger(subject, self)
        table.place(ledger)
        # Another thread may have been faster.
        return self._known.setdefault(subject, ledger)

    def _leave_two(self) -> None:
        """Remember two subjects less, so that it keeps up with those that are met."""
        for _ in range(2):
            with suppress(IndexError, KeyError, Shut):
                ledger = self._known[self._round.pop()]
                ledger.stripe.run_now(self._leave, ledger)
        if not self._round:
            self._round = [*self._known]

    def _leave(self, ledger: HostLedger) -> None:
        if not ledger.holds():
            ledger.left = True
            self._known.pop(ledger.subject, None)
            ledger.table.leases.leave(ledger)

    def release(self, ledger: HostLedger, lease_id: int) -> bool:
        """Give a lease of this process back; whether it was held. It never waits and never raises."""
        held = False
        while ledger.home is self and not self._closed:
            leases: HostLeases = ledger.table.leases
            try:
                held |= leases.give_back(ledger, lease_id)
            except (ValueError, StructError):
                # What was mapped is not there any more, or not there yet.
                pass
            except BaseException:
                # A signal handler raised in between.
                leases.give_back(ledger, lease_id)
                raise
            if ledger.table.leases is leases:
                break
        return held

    def take_back(self, subject: str, lease_id: int) -> None:
        """Give back a lease whose decision nobody has; there may be none."""
        ledger = self._known.get(subject)
        if ledger is not None:
            self.release(ledger, lease_id)

    def write_leases(self, ledger: HostLedger) -> None:
        """Write down what this process holds, alone with `ledger`."""
        table: Table = ledger.table
        ledger.seen = None
        if table.read(ledger) or ledger.holds():
            ledger.seen = None
            table.leases.regrant(ledger)
            table.write(ledger, self._now_ms())

    def _look(self) -> None:
        """Once a second: who is alive, where the path leads to, and a part of the sweep."""
        if self._closed:
            return
        try:
            table = self.open()
            table.desks.look_again()
            if not (table.file.is_intact() and table.file.is_where_it_was()):
                self._go_on_elsewhere(table)
            while self._late:
                self.run(self._late[0], self.write_leases)
                self._late.popleft()
            for _ in range(_SWEPT_A_LOOK):
                self._looks += 1
                stripe = table.file.stripes[self._looks % len(table.file.stripes)]
                stripe.run_now(table.sweep, stripe, self._now_ms())
            self.trouble = None
        except Shut:
            return
        except Exception as error:
            self._say(error)

    def _go_on_elsewhere(self, old: Table) -> None:
        """The file was removed, replaced or changed by somebody: use what is there now, or make it."""
        self._table = None
        try:
            self.open()
        except AwxRateLimitError:
            if old.file.is_intact():
                # Nobody else can make another one either: all go on with this one.
                self._table = old
            else:
                old.file.shut()
            raise
        _log.warning("%s: it was removed or replaced; what was used until now is forgotten", self._path)
        old.file.shut()

    def _say(self, error: Exception) -> None:
        """Once, until all is well again."""
        if self.trouble is None:
            known = isinstance(error, AwxRateLimitError)
            _log.warning("limits of this host cannot be kept as they should: %s", error, exc_info=not known)
        self.trouble = str(error)

    def health(self) -> dict[str, Any]:
        """How it is: the leases that this process holds, and how large the file is."""
        known = self._known.copy().values()
        leases = sum(len(ledger.leases) + len(ledger.bounded) for ledger in known)
        said: dict[str, Any] = {"path": self._path, "leases": leases}
        try:
            table = self.open()
            stripe = table.file.stripes[0]
            stripe.run(table.sweep, stripe, self._now_ms())
        except Exception as error:
            return {"state": self.trouble or str(error), **said}
        return {"state": self.trouble or "ok", **said, "bytes": table.file.file_bytes(), "damaged": table.damaged}

    def close(self) -> None:
        """Let go of the file, and so of every lease. Harmless twice."""
        self._closed = True
        self._keeper.stop()
        table, self._table = self._table, None
        if table is not None:
            table.file.shut()

    def abandon(self) -> None:
        """In a forked child: let go at once of what was opened for the parent."""
        self._closed = True
        if self._table is not None:
            self._table.file.close()


def _opened(path: str) -> Table:
    file = HostFile(path)
    try:
        return Table(file)
    except FileDamaged:
        if not file.is_of_another_boot():
            raise
        # A power cut is nobody's mistake.
        file.set_aside()
        return Table(HostFile(path))


def _move(ledger: HostLedger, table: Table) -> None:
    if ledger.table is not table:
        table.place(ledger)
