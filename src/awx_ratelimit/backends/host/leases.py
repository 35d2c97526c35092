"""The leases of subjects, the counters of released leases, and which processes are alive.

A counter page holds the number of its process, the offset of the next page, and counters. Only its process writes it. A
record says how many leases a process was granted on a counter; the counter says how many of them were released, and
only ever grows. A release is therefore one store of eight bytes, without a lock and visible to all at once. A store
that comes late, or is lost with its process, makes others count too many leases as held, never too few. A reused
counter continues from its value, so older records that name it count as fully released. Everything else is done under
the lock of the subject's shard.

While a process lives it holds the lock on the byte of its number. The kernel releases that lock however the process
ends, and in any namespace; a stopped process keeps it. The counter pages of dead processes are reused.
"""

import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

from awx_ratelimit.backends.host.locks import PROCESS_NUMBER_BITS, ByteLock, alive_lock, is_dead
from awx_ratelimit.backends.host.mapped_file import FIRST_COUNTER_PAGE_AT, PAGE_BYTES, SPACE_AT, MappedFile
from awx_ratelimit.backends.host.record import ExpiringLease, HostLedger

_COUNTER_BYTES: Final = 8
_COUNTERS_AT = 16
_NEXT_PAGE_AT = 8
_PAGE_MASK = -PAGE_BYTES
#: How far counters jump when their page is reused: beyond anything that the last owner can have been granted.
_GENERATION_BITS = 32


class LeaseCounters:
    """The counters in one opened file, on behalf of this process, which counts as alive from now on."""

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self._unused: list[int] = []
        self._own_pages: set[int] = set()
        self._seen_alive: set[int] = set()
        self._process_number = 0
        self._alive_lock: ByteLock
        while not self._process_number or self._alive_lock.try_lock():
            self._process_number = int.from_bytes(os.urandom(8)) >> 64 - PROCESS_NUMBER_BITS
            self._alive_lock = alive_lock(file.fd, self._process_number)
        # Raises BackendMisconfigured unless every counter page is in the file.
        sum(1 for _ in self._pages())

    def value(self, counter: int) -> int:
        """How many leases were released on `counter`, plus the value that it started from."""
        return self._file.words[counter // _COUNTER_BYTES]

    def store(self, counter: int, value: int) -> None:
        """Set a counter of this process. Does nothing if the file was truncated."""
        file = self._file
        if file.file_bytes() >= file.mapped_bytes:
            file.words[counter // _COUNTER_BYTES] = value

    def allocate(self) -> int:
        """A counter of this process that no subject uses. Raises BackendUnavailable if the file cannot grow."""
        while True:
            try:
                return self._unused.pop()
            except IndexError:
                self._file.growth_lock.run(self._allocate_page)

    def free(self, counters: Iterable[int]) -> None:
        """Let other subjects use these counters. Every lease granted on them must have been released."""
        self._unused.extend(counters)

    def is_own(self, counter: int) -> bool:
        """Whether `counter` belongs to this process."""
        return counter & _PAGE_MASK in self._own_pages

    def unreleased(self, counter: int, granted: int, *, verify: bool) -> int:
        """How many of another process's leases on `counter` are still held: 0 if that process is dead.

        Without `verify`, a process that was seen alive since `forget_alive` counts as alive.
        """
        self._ensure_mapped(counter)
        leases, page = granted - self.value(counter), counter & _PAGE_MASK
        if leases <= 0 or not ((not verify and page in self._seen_alive) or self._is_owner_alive(page)):
            return 0
        return leases

    def forget_alive(self) -> None:
        """Check every process again before it counts as alive."""
        self._seen_alive = set()

    def _is_owner_alive(self, page: int) -> bool:
        alive = not is_dead(self._file.fd, self.value(page))
        if alive:
            self._seen_alive.add(page)
        return alive

    def _allocate_page(self) -> None:
        """Reuse a dead process's counter page, or allocate one."""
        last = FIRST_COUNTER_PAGE_AT - _NEXT_PAGE_AT
        for page in self._pages():
            last = page
            if page not in self._own_pages and not self._is_owner_alive(page):
                break
        else:
            page = self._file.allocate_locked(PAGE_BYTES)
        counters = range(page + _COUNTERS_AT, page + PAGE_BYTES, _COUNTER_BYTES)
        # After a power cut the counters may be older than the records that name them. The time is not.
        generation = max((max(self.value(counter) for counter in counters) >> _GENERATION_BITS) + 2, int(time.time()))
        for counter in counters:
            self.store(counter, generation << _GENERATION_BITS)
        self.store(page, self._process_number)
        self._own_pages.add(page)
        if page != last:
            # Link the page last: a process that is killed before this loses the page, and nobody uses it.
            self.store(last + _NEXT_PAGE_AT, page)
        self._unused.extend(counters)

    def _pages(self) -> Iterator[int]:
        page, max_pages = self.value(FIRST_COUNTER_PAGE_AT), self._file.file_bytes() // PAGE_BYTES
        while page:
            # More pages than the file has room for: the list is a cycle.
            if page % PAGE_BYTES or page < SPACE_AT or not max_pages:
                raise self._file.damaged("the file is damaged")
            self._ensure_mapped(page)
            yield page
            page, max_pages = self.value(page + _NEXT_PAGE_AT), max_pages - 1

    def _ensure_mapped(self, at: int) -> None:
        """Map the file again if the offset `at` is beyond the mapping: another process may have made it larger."""
        if at + _COUNTER_BYTES > self._file.mapped_bytes:
            self._file.map()
            if at + _COUNTER_BYTES > self._file.mapped_bytes:
                raise self._file.damaged("the file is damaged")


class HostLeases:
    """Grants, counts and releases leases: those of this process on its own counters, and those of others on theirs."""

    def __init__(self, counters: LeaseCounters) -> None:
        self._counters = counters

    def held(self, ledger: HostLedger, slots: int, now_ms: int) -> int:
        """How many slots living processes hold. Exact if the result reaches `slots`; else it may count dead ones."""
        if ledger.expiring:
            self._end_expired(ledger, now_ms)
        own = len(ledger.leases) + len(ledger.expiring)
        held = own + self._held_by_others(ledger, now_ms, verify=False)
        if held >= slots:
            held = own + self._held_by_others(ledger, now_ms, verify=True)
        return held

    def _held_by_others(self, ledger: HostLedger, now_ms: int, *, verify: bool) -> int:
        held = 0
        for counter, granted in [*ledger.others.items()]:
            unreleased = self._counters.unreleased(counter, granted, verify=verify)
            held += unreleased
            if not unreleased:
                del ledger.others[counter]
        if ledger.other_expiring:
            ledger.other_expiring = tuple(
                lease
                for lease in ledger.other_expiring
                if lease.expires_at_ms > now_ms
                and self._counters.unreleased(lease.counter, lease.granted, verify=verify)
            )
        return held + len(ledger.other_expiring)

    def grant(self, ledger: HostLedger, lease_id: int, expires_at_ms: int | None) -> None:
        """Grant this process one more lease, which ends at `expires_at_ms` unless that is None.

        Call `ensure_counters` first.
        """
        if expires_at_ms is not None:
            counter = self._counters.allocate()
            ledger.expiring[lease_id] = ExpiringLease(counter, self._counters.value(counter) + 1, expires_at_ms)
            return
        held = len(ledger.leases)
        # In this order, a release in between stores a value that is too small, and the line below corrects it.
        ledger.leases.add(lease_id)
        ledger.granted += 1
        if len(ledger.leases) != held + 1:
            self._store_released(ledger)

    def ensure_counters(self, ledger: HostLedger) -> None:
        """Give the leases of this process counters in this file, unless they have some."""
        if not ledger.counter:
            counter = self._counters.allocate()
            ledger.granted = self._counters.value(counter) + len(ledger.leases)
            ledger.counter = counter
            self._store_released(ledger)
            for lease_id, lease in [*ledger.expiring.items()]:
                counter = self._counters.allocate()
                ledger.expiring[lease_id] = lease._replace(counter=counter, granted=self._counters.value(counter) + 1)

    def release(self, ledger: HostLedger, lease_id: int) -> bool:
        """Release a lease of this process without a lock; whether it was held. Call it again if it was interrupted."""
        if ledger.expiring:
            lease = ledger.expiring.get(lease_id)
            if lease is not None:
                self._counters.store(lease.counter, lease.granted)
                if ledger.expiring.pop(lease_id, None) is not None:
                    self._counters.free((lease.counter,))
                return True
        leases = ledger.leases
        held = lease_id in leases
        leases.discard(lease_id)
        self._store_released(ledger)
        return held

    def cancel(self, ledger: HostLedger, lease_id: int, granted: int) -> None:
        """Drop a lease that a record may or may not mention, because writing the record failed.

        `granted` is the value from before the grant. Without it, a lease that no record mentions would count as
        released in place of another one.
        """
        if lease_id not in ledger.expiring:
            ledger.granted = granted
        self.release(ledger, lease_id)

    def _store_released(self, ledger: HostLedger) -> None:
        counter, leases = ledger.counter, ledger.leases
        while counter:
            released = ledger.granted - len(leases)
            self._counters.store(counter, released)
            # Releases in other threads and signal handlers store too. The last one to store checks, and so corrects.
            if released == ledger.granted - len(leases):
                return

    def _end_expired(self, ledger: HostLedger, now_ms: int) -> None:
        for lease_id, lease in [*ledger.expiring.items()]:
            if lease.expires_at_ms <= now_ms:
                self.release(ledger, lease_id)

    def free_counter(self, ledger: HostLedger) -> None:
        """Let another subject use the counter of a ledger that holds no leases."""
        if ledger.counter:
            self._store_released(ledger)
            # In this order, a signal handler that raises in between loses a counter, and never shares one.
            counter, ledger.counter = ledger.counter, 0
            self._counters.free((counter,))

    def any_held(self, ledger: HostLedger, now_ms: int) -> bool:
        """Whether a living process holds a lease. `ledger` was decoded with this process's leases among the others."""
        granted_by = {**ledger.others, **{counter: granted for counter, granted, _ in ledger.other_expiring}}
        own = any(
            self._counters.is_own(counter) and granted > self._counters.value(counter)
            for counter, granted in granted_by.items()
        )
        return own or self._held_by_others(ledger, now_ms, verify=True) > 0
