"""What one process knows of the shared file: the opened file, its ledgers and the maintenance thread.

A session belongs to one process; a forked child starts another one. The ledgers alone know the leases that this process
holds. If the file at the path is removed or
replaced, the session switches to the file that is there now, and writes the leases of this process into it.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any, TypeVar

from awx_ratelimit.backends.host.leases import HostLeases
from awx_ratelimit.backends.host.ledgers import Ledgers
from awx_ratelimit.backends.host.locks import WAIT_MS, process_wait_ms, remaining_ms, reset_deadline
from awx_ratelimit.backends.host.record import HostLedger
from awx_ratelimit.backends.host.shard import Shard, Stale
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.core.budget import Record
from awx_ratelimit.errors import AwxRateLimitError, BackendUnavailable
from awx_ratelimit.runtime.periodic_thread import PeriodicThread

_log = logging.getLogger("awx_ratelimit")
_MAINTENANCE_INTERVAL_S = 1.0
_SHARDS_PER_SWEEP = 8
SEQUENCE_BITS = 48
_Result = TypeVar("_Result")


class HostSession:
    """See the module. `open_table(wait_ms)` opens the file at `path`, and waits that long for its creation."""

    def __init__(self, path: str, now_ms: Callable[[], int], open_table: Callable[[int], Table]) -> None:
        self._path = path
        self._open_table = open_table
        self._now_ms = now_ms
        self.ledgers = Ledgers(self, self._start_thread)
        self._known = self.ledgers.known
        #: Records whose leases are still to be written into a new file.
        self._unwritten: deque[Record] = deque()
        self._thread = PeriodicThread("awx_ratelimit host", self._maintain, _MAINTENANCE_INTERVAL_S)
        self._thread_started = self.is_closed = False
        self._shards_swept = 0
        self._table: Table | None = None
        self._opening = threading.Lock()
        #: Returns a number that no other lease has, in any process.
        self.new_lease_id = count((int.from_bytes(os.urandom(8)) << SEQUENCE_BITS) + 1).__next__
        #: What the maintenance thread cannot do and why; None while all is well.
        self.problem: str | None = None

    def open(self, wait_ms: float = WAIT_MS) -> Table:
        """The opened table. Waits up to `wait_ms` for a thread or process that opens or creates the file.

        Raises BackendUnavailable, and BackendMisconfigured if the file is unusable.
        """
        until_s = time.monotonic() + wait_ms / 1000
        # A signal handler that raises cannot run between an iterator and its loop, and so leaves no lock behind.
        for _ in iter(partial(self._opening.acquire, timeout=wait_ms / 1000), False):
            try:
                if self.is_closed and self._table is None:
                    raise BackendUnavailable(f"{self._path}: this backend is closed")
                return self._table or self._switch_to(self._open_table(remaining_ms(until_s)))
            finally:
                self._opening.release()
        raise BackendUnavailable(f"{self._path}: another thread has been opening the file for {wait_ms:.0f} ms")

    def open_in_decision(self) -> Table:
        """`open` within the time of a decision. After a failure only the maintenance thread tries again."""
        if self.problem is not None and not self.is_closed:
            raise BackendUnavailable(self.problem)
        try:
            return self.open(process_wait_ms())
        except AwxRateLimitError as error:
            if not self.is_closed:
                self._report(error)
                self._start_thread()
            raise

    def _switch_to(self, table: Table) -> Table:
        previous, self._table = self._table, table
        if previous is not None:
            previous.file.close_when_idle()
        # Not earlier: a thread in the previous file could still grant leases that would not be in this list.
        self._unwritten.extend(self.ledgers.with_leases())
        if self.is_closed:
            self._close_file()
        return table

    def run(self, record: Record, act: Callable[..., _Result], *args: Any) -> _Result:
        """Call ``act(ledger, *args)`` under the lock of the record. Raises BackendUnavailable."""
        reset_deadline()
        while True:
            table = self._table or self.open_in_decision()
            ledger = self._known.get(record) or self.ledgers.new(record, table)
            if ledger.table is not table:
                ledger.shard.run_among_threads(self._move, ledger, table)
            try:
                return ledger.shard.run(act, ledger, *args)  # type: ignore[no-any-return]
            except Stale:  # the file was replaced, or the ledger evicted; the process may have another one by now
                self.ledgers.remove_evicted(ledger)

    def run_jointly(self, records: Sequence[Record], act: Callable[..., _Result], *args: Any) -> _Result:
        """`run` for several records, under all their locks, which everybody takes in the same order."""
        reset_deadline()
        while True:
            table = self._table or self.open_in_decision()
            ledgers = [self._known.get(record) or self.ledgers.new(record, table) for record in records]
            for ledger in ledgers:
                if ledger.table is not table:
                    ledger.shard.run_among_threads(self._move, ledger, table)
            numbers = sorted({ledger.shard.number for ledger in ledgers})
            try:
                return self._run_locked([table.file.shards[number] for number in numbers], table, ledgers, act, args)
            except Stale:
                for ledger in ledgers:
                    self.ledgers.remove_evicted(ledger)

    def _run_locked(
        self, shards: list[Shard], table: Table, ledgers: list[HostLedger], act: Callable[..., _Result], args: Any
    ) -> _Result:
        if shards:
            result: _Result = shards[0].run(self._run_locked, shards[1:], table, ledgers, act, args)
            return result
        if any(ledger.table is not table for ledger in ledgers):
            raise Stale  # another thread has moved one before this one had the lock
        return act(ledgers, *args)

    def _move(self, ledger: HostLedger, table: Table) -> None:
        # A slow thread may still have the previous table. It must not move the ledger back.
        if ledger.table is not table and self._table is table:
            table.place(ledger)

    def _start_thread(self) -> None:
        if self._thread_started:
            return
        self._thread_started = True
        try:
            self._thread.start()
        except RuntimeError as error:
            # The process has as many threads as it may. Decisions need none; the next new subject tries again.
            self._thread_started = False
            self._report(error)

    def release(self, ledger: HostLedger, lease_id: int) -> bool:
        """Release a lease of this process; whether it was held. Never waits and never raises."""
        held = False
        while ledger.session is self and not self.is_closed:
            leases: HostLeases = ledger.table.leases
            try:
                held |= leases.release(ledger, lease_id)
            except (IndexError, ValueError):
                pass  # the memory is not mapped any more, or not yet
            except BaseException:  # a signal handler raised in the middle
                leases.release(ledger, lease_id)
                raise
            if ledger.table.leases is leases:
                break
        return held

    def release_all(self, ledgers: Sequence[HostLedger], lease_id: int) -> bool:
        """`release` in several ledgers."""
        try:
            released = [self.release(ledger, lease_id) for ledger in ledgers]
            return any(released)
        except BaseException:
            for ledger in ledgers:
                self.release(ledger, lease_id)
            raise

    def cancel(self, records: Iterable[Record], lease_id: int) -> None:
        """Release the lease of a decision that failed, if it got as far as taking one."""
        ledgers = map(self._known.get, records)
        self.release_all([ledger for ledger in ledgers if ledger is not None], lease_id)

    def _maintain(self) -> None:
        """Once a second: check the path, write leases into a new file, forget who was alive, and sweep some shards."""
        if self.is_closed:
            return
        try:
            table = self.open()
            if not (table.file.is_intact() and table.file.is_at_path()):
                table = self._switch_file(table)
            table.counters.forget_alive()
            while self._unwritten:
                self.run(self._unwritten[0], lambda ledger: ledger.table.write_leases(ledger, self._now_ms()))
                self._unwritten.popleft()
            for _ in range(_SHARDS_PER_SWEEP):
                self._shards_swept += 1
                shard = table.file.shards[self._shards_swept % len(table.file.shards)]
                shard.try_run(table.sweep, shard, self._now_ms())
            self.problem = None
        except Stale:
            return
        except Exception as error:
            self._report(error)

    def _switch_file(self, old: Table) -> Table:
        """Open the file that is at the path now, or create one: somebody removed, replaced or changed the old one."""
        try:
            new = self._open_table(WAIT_MS)
        except AwxRateLimitError:
            # A file that was only moved stays in use: the other processes cannot open a new one either.
            if not old.file.is_intact():
                self._close_file()
            raise
        self._switch_to(new)
        _log.warning("%s: the file was removed or replaced; the usage recorded in it is lost", self._path)
        return new

    def _report(self, error: Exception) -> None:
        """Log the first problem since all was well."""
        if self.problem is None:
            is_expected = isinstance(error, AwxRateLimitError)
            _log.warning("the host backend does not work properly: %s", error, exc_info=not is_expected)
        self.problem = str(error)

    def health(self) -> dict[str, Any]:
        """The state, the leases that this process holds, the size of the file, and the damaged records it found."""
        reset_deadline()
        known: dict[str, Any] = {"path": self._path, "leases": self.ledgers.count_leases()}
        try:
            table = self._table or self.open_in_decision()
            shard = table.file.shards[0]
            shard.run(table.sweep, shard, self._now_ms())
        except Exception as error:
            return {"state": self.problem or str(error), **known}
        return {"state": self.problem or "ok", **known, "bytes": table.file.file_bytes(), "damaged": table.damaged}

    def close(self) -> None:
        """Close the file and end every lease of this process. May be called twice."""
        self.is_closed = True
        self._thread.stop(0)
        self._close_file()

    def _close_file(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.file.close_when_idle()

    def abandon(self) -> None:
        """In a forked child: close at once what the parent opened."""
        self.is_closed = True
        if self._table is not None:
            self._table.file.close()
