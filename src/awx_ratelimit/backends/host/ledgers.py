"""The ledgers of one process: exactly one for each record in which it holds leases, and those that it used recently."""

from collections.abc import Callable
from contextlib import suppress

from awx_ratelimit.backends.host.record import HostLedger
from awx_ratelimit.backends.host.shard import Stale
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.core.budget import Record

MAX_LEDGERS = 10_000


class Ledgers:
    """See the module. `known` has them by record; idle ones beyond the maximum are evicted.

    `on_new` is called before each new ledger.
    """

    def __init__(self, session: object, on_new: Callable[[], object]) -> None:
        self._session = session
        self._on_new = on_new
        self.known: dict[Record, HostLedger] = {}
        self._eviction_queue: list[Record] = []

    def new(self, record: Record, table: Table) -> HostLedger:
        """A ledger for a record that has none."""
        self._on_new()
        if len(self.known) >= MAX_LEDGERS:
            self.evict_two()
        ledger = HostLedger(record, self._session)
        table.place(ledger)
        # Another thread may have added one in the meantime.
        return self.known.setdefault(record, ledger)

    def evict_two(self) -> None:
        """Evict up to two idle ledgers. One new record comes with each call, so the number goes down."""
        for _ in range(2):
            with suppress(IndexError, KeyError, Stale):
                ledger = self.known[self._eviction_queue.pop()]
                ledger.shard.try_run(self._evict, ledger)
        if not self._eviction_queue:
            self._eviction_queue = [*self.known]

    def _evict(self, ledger: HostLedger) -> None:
        if not ledger.holds_leases():
            ledger.evicted = True
            self._remove(ledger)

    def remove_evicted(self, ledger: HostLedger) -> None:
        """Remove `ledger` if it is evicted: a signal handler that raised may have interrupted its eviction."""
        if ledger.evicted:
            ledger.shard.run_among_threads(self._remove, ledger)

    def _remove(self, ledger: HostLedger) -> None:
        if self.known.get(ledger.record) is ledger:
            del self.known[ledger.record]
        ledger.table.leases.free_counter(ledger)

    def with_leases(self) -> list[Record]:
        """The records in which this process holds leases."""
        return [record for record, ledger in self.known.copy().items() if ledger.holds_leases()]

    def count_leases(self) -> int:
        """The number of slots that this process holds."""
        return sum(len(ledger.leases) + len(ledger.expiring) for ledger in self.known.copy().values())
