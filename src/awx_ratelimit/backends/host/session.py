"""One process's side of a host's file: its ledgers, the opened file, and the thread. It ends with a fork.

A ledger's leases are this process's truth about a subject, so there is one ledger for each subject that holds any. The
path may come to lead to another file, because somebody removed it or put another one there: then everything goes on
in that one, and what is held is written down there.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from struct import error as StructError  # noqa: N812  # what it is: an error class
from typing import Any, TypeVar

from awx_ratelimit.backends.host.keeper import Keeper
from awx_ratelimit.backends.host.leases import HostLeases
from awx_ratelimit.backends.host.locks import Shut, Stripe
from awx_ratelimit.backends.host.record import HostLedger
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.backends.host.waits import WAIT_MS, begin_to_wait, process_wait_ms, run_alone
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
#: How many subjects a process remembers the places of.
_MOST_KNOWN = 10_000
_SWEPT_A_LOOK = 8
SEQUENCE_BITS = 48
_Answer = TypeVar("_Answer")


class HostSession:
    """See the module. `now_ms` is the time; `opened` opens the file at `path`, and waits so many ms to create it."""

    def __init__(self, path: str, now_ms: Callable[[], int], opened: Callable[[int], Table]) -> None:
        self._path = path
        self._opened = opened
        self._now_ms = now_ms
        self._known: dict[str, HostLedger] = {}
        self._round: list[str] = []
        self._late: deque[str] = deque()
        self._keeper = Keeper(self._look)
        self._looks = 0
        self._started = self._closed = False
        self._table: Table | None = None
        self._opening = threading.Lock()
        #: A number that no other lease has.
        self.new_lease_id = count((int.from_bytes(os.urandom(8)) << SEQUENCE_BITS) + 1).__next__
        #: What the thread cannot do, and why; None where all is well.
        self.trouble: str | None = None

    def open(self, wait_ms: float = WAIT_MS) -> Table:
        """The subjects in the file; waits so long for who makes it. Raises BackendMisconfigured where it is no use."""
        return run_alone(self._opening, wait_ms, self._open_alone)

    def _open_alone(self, wait_ms: int) -> Table:
        if self._closed and self._table is None:
            raise BackendUnavailable(f"{self._path}: it was closed")
        return self._table or self._use(self._opened(wait_ms))

    def _use(self, table: Table) -> Table:
        """`table`, in which all goes on."""
        before, self._table = self._table, table
        if before is not None:
            before.file.shut()
        # Not before nobody is in the other one: what is held is not known in this one yet.
        self._late.extend(subject for subject, ledger in self._known.copy().items() if ledger.holds())
        if self._closed:
            self._let_go()
        return table

    def open_soon(self) -> Table:
        """The subjects where no file is open. Only the thread tries that again and again: nobody else is to wait."""
        if self.trouble is not None and not self._closed:
            raise BackendUnavailable(self.trouble)
        try:
            return self.open(process_wait_ms())
        except AwxRateLimitError as error:
            if not self._closed:
                self._say(error)
                self._begin_to_look()
            raise

    def run(self, subject: str, act: Callable[..., _Answer], *args: Any) -> _Answer:
        """What ``act(ledger, *args)`` answers, alone with the ledger of `subject`. Raises BackendUnavailable."""
        begin_to_wait()
        while True:
            table = self._table or self.open_soon()
            ledger = self._known.get(subject) or self._met(subject, table)
            if ledger.table is not table:
                ledger.stripe.run_apart(self._move, ledger, table)
            stripe: Stripe = ledger.stripe
            try:
                return stripe.run(act, ledger, *args)
            except Shut:
                # The file was replaced, or this process has another ledger for the subject by now.
                if ledger.left:
                    stripe.run_apart(self._forget, ledger)

    def _move(self, ledger: HostLedger, table: Table) -> None:
        # Whoever saw an older file than others do must not take the ledger back to it.
        if ledger.table is not table and self._table is table:
            table.place(ledger)

    def _begin_to_look(self) -> None:
        if self._started:
            return
        self._started = True
        try:
            self._keeper.start()
        except RuntimeError as error:
            # As many threads as are allowed: decisions need none, and the next new subject tries again.
            self._started = False
            self._say(error)

    def _met(self, subject: str, table: Table) -> HostLedger:
        self._begin_to_look()
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
            self._forget(ledger)

    def _forget(self, ledger: HostLedger) -> None:
        """Know a ledger no more that was left; twice where a signal handler raised in between."""
        if self._known.get(ledger.subject) is ledger:
            del self._known[ledger.subject]
        ledger.table.leases.leave(ledger)

    def release(self, ledger: HostLedger, lease_id: int) -> bool:
        """Give a lease of this process back; whether it was held. It never waits and never raises."""
        held = False
        while ledger.home is self and not self._closed:
            leases: HostLeases = ledger.table.leases
            try:
                held |= leases.give_back(ledger, lease_id)
            except (TypeError, ValueError, StructError):
                # What was mapped is not there any more, or not there yet. TypeError is what `pack_into` makes of it.
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
            if not (table.file.is_intact() and table.file.is_where_it_was()):
                table = self._go_on_elsewhere(table)
            table.desks.look_again()
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

    def _go_on_elsewhere(self, old: Table) -> Table:
        """The file was removed, replaced or changed by somebody: use what is there now, or make it."""
        try:
            new = self._opened(WAIT_MS)
        except AwxRateLimitError:
            # One that only lies elsewhere is gone on with: nobody else can make another one either.
            if not old.file.is_intact():
                self._let_go()
            raise
        self._use(new)
        _log.warning("%s: it was removed or replaced; what was used until now is forgotten", self._path)
        return new

    def _say(self, error: Exception) -> None:
        """Once, until all is well again."""
        if self.trouble is None:
            known = isinstance(error, AwxRateLimitError)
            _log.warning("limits of this host cannot be kept as they should: %s", error, exc_info=not known)
        self.trouble = str(error)

    def health(self) -> dict[str, Any]:
        """How it is: the leases that this process holds, and how large the file is."""
        begin_to_wait()
        leases = sum(len(ledger.leases) + len(ledger.bounded) for ledger in self._known.copy().values())
        said: dict[str, Any] = {"path": self._path, "leases": leases}
        try:
            table = self._table or self.open_soon()
            stripe = table.file.stripes[0]
            stripe.run(table.sweep, stripe, self._now_ms())
        except Exception as error:
            return {"state": self.trouble or str(error), **said}
        return {"state": self.trouble or "ok", **said, "bytes": table.file.file_bytes(), "damaged": table.damaged}

    def close(self) -> None:
        """Let go of the file, and so of every lease. Harmless twice."""
        self._closed = True
        self._keeper.stop()
        self._let_go()

    def _let_go(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.file.shut()

    def abandon(self) -> None:
        """In a forked child: let go at once of what was opened for the parent."""
        self._closed = True
        if self._table is not None:
            self._table.file.close()
