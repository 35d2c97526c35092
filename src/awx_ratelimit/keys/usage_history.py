"""`UsageHistory`: stores what keys have used, by hour and by day, in the key store.

Requests are counted in the process. A thread writes the counts every few seconds, in batches that carry the id of the
process and a number. Each batch is written once, even if the answer of a commit is lost. A process that is killed loses
what it has not written yet; nothing is ever counted twice.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from awx_ratelimit.core.validation import check_seconds, short_repr
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys.format import KEY_ID_PREFIX, is_key_id
from awx_ratelimit.keys.storage import usage
from awx_ratelimit.keys.storage.store import KeyStore, checked_store
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.observability.usage_history import UsageCounts
from awx_ratelimit.runtime.clock import Clock, WallClock
from awx_ratelimit.runtime.exits import register_at_exit
from awx_ratelimit.runtime.flushable_thread import FlushableThread
from awx_ratelimit.runtime.forks import ForkSafeLock, register_after_fork, renew_if_forked
from awx_ratelimit.runtime.reopening import Reopenable

KEEP_DAYS: Final = 400
FLUSH_S: Final = 5.0
_MAX_KEEP_DAYS: Final = 3_650
_MAX_FLUSH_S: Final = 3_600
#: How many subjects one transaction writes. In SQLite, all other writers wait for it.
_BATCH: Final = 500
#: How often old rows are removed, and how many times in one flush at most.
_REMOVE_INTERVAL_MS: Final = 3_600_000
_MAX_REMOVALS: Final = 10
_CLOSE_S: Final = 2.0


class UsageHistory(UsageCounts, Reopenable):
    """A listener for the limiters of a process: ``Limiter(backend, listeners=[UsageHistory(store)])``.

    It counts the requests of the keys in `store`, by key. Days are kept for `keep_days` (1 to 3,650), hours for 35
    days. Counts are written every `flush_seconds` (more than 0, up to 3,600), at the end of an ASGI lifespan, and at a
    normal exit. While the database does not answer, counts are kept and written later. No request waits for it.
    `clock` has ``now_ms() -> int`` and decides which rows are old; None is the system time.

    Read the history with `KeyService.usage`. Raises TypeError for anything but a KeyStore, and InvalidLimit for a
    number out of its range.
    """

    #: What the current transaction writes.
    _batch: list[HourUsage]
    _may_remove: bool
    _asked_at_ms: int

    def __init__(
        self,
        store: KeyStore,
        keep_days: int = KEEP_DAYS,
        flush_seconds: float = FLUSH_S,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._store = checked_store(store, "UsageHistory")
        if type(keep_days) is not int or not 1 <= keep_days <= _MAX_KEEP_DAYS:
            raise InvalidLimit(
                f"keep_days: expected an integer from 1 to {_MAX_KEEP_DAYS}, got {short_repr(keep_days)}"
            )
        check_seconds(flush_seconds, "flush_seconds", _MAX_FLUSH_S)
        self._keep_days = keep_days
        self._clock = clock or WallClock()
        self._writer = FlushableThread("awx-usage", self.write, flush_seconds)
        self._reopening = ForkSafeLock()
        self._renew()
        super().__init__(KEY_ID_PREFIX, is_key_id, start=self._start_writer, wake=self._wake_writer)
        register_after_fork(self._renew)

    def write(self) -> None:
        """Write all counts now. The thread does this every `flush_seconds`. Raises KeyStoreUnavailable."""
        renew_if_forked()
        with self._writer.attempt():
            self._write_batches()
            self._remove_old()

    def flush(self) -> None:
        """Write all counts, and wait for at most 2 s. While the database does not answer, it does not wait."""
        renew_if_forked()
        self._writer.flush()

    def health(self) -> Mapping[str, Any]:
        """Return how many subjects of this process have counts that are not written, and what was not counted.

        ``unwritten`` is the number of subjects, ``dropped`` the number of requests that were not counted because there
        were too many subjects, and ``failing`` whether the last attempt to write has failed. Never raises.
        """
        renew_if_forked()
        unwritten = self.untaken + len(self._batch)
        return {"unwritten": unwritten, "dropped": self.dropped, "failing": self._writer.is_failing}

    def close(self) -> None:
        """Write all counts and stop the thread, within 2 s. You may call it twice. Close the store after this."""
        renew_if_forked()
        self._writer.stop(_CLOSE_S)

    def reopen(self) -> None:
        """Write counts again after `close`. The ASGI middleware calls this when a lifespan begins. Harmless if open."""
        with self._reopening.current:
            if self._writer.is_stopped:
                self._writer = self._writer.successor()
                self._writer.try_start()

    def _start_writer(self) -> bool:
        return self._writer.try_start()

    def _wake_writer(self) -> None:
        # A database that does not answer gets no more attempts for it.
        if not self._writer.is_failing:
            self._writer.wake()

    def _write_batches(self) -> None:
        # What an attempt that failed has left comes first. Meanwhile, the new counts are added up.
        self._write_ready()
        self.rotate()
        self._write_ready()

    def _write_ready(self) -> None:
        while True:
            if not self._batch:
                self._batch = self.take(_BATCH)
                if not self._batch:
                    return
                self._sequence += 1
            # If this fails, the same batch is written again, with the same number: it may be stored already.
            self._store.write(usage.add, self._process, self._sequence, self._clock.now_ms(), self._batch)
            self._batch = []

    def _remove_old(self) -> None:
        now_ms = self._clock.now_ms()
        if not self._may_remove and not 0 <= now_ms - self._asked_at_ms < _REMOVE_INTERVAL_MS:
            self._may_remove = self._store.write(usage.take_turn, now_ms, _REMOVE_INTERVAL_MS)
            self._asked_at_ms = now_ms
        for _ in range(_MAX_REMOVALS):
            if not self._may_remove:
                return
            self._may_remove = self._store.write(usage.remove_some, now_ms, self._keep_days)

    def _renew(self) -> None:
        """Begin as a new writer: in the constructor, and in a child process."""
        #: The counts of the parent are the parent's to write.
        self._process = secrets.token_hex(8)
        self._sequence = 0
        self._batch = []
        self._may_remove = False
        self._asked_at_ms = -_REMOVE_INTERVAL_MS
        self._writer.renew()
        register_at_exit(self.close)
