"""Counters of released leases, and which processes are alive: each process has counter pages that only it writes.

A counter page holds the number of its process, the offset of the next page, and counters. A record says how many leases
a process was granted on a counter; the counter says how many of them were released, and only ever grows. A release is
therefore one store of eight bytes, without a lock and visible to all at once. A store that comes late, or is lost with
its process, makes others count too many leases as held, never too few. A reused counter continues from its value, so
older records that name it count as fully released.

While a process lives it holds the lock on the byte of its number. The kernel releases that lock however the process
ends, and in any namespace; a stopped process keeps it. The counter pages of dead processes are reused.
"""

import os
import time
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from awx_ratelimit.backends.host.locks import PROCESS_NUMBER_BITS, ByteLock, alive_lock, is_dead
from awx_ratelimit.backends.host.mapped_file import FIRST_COUNTER_PAGE_AT, PAGE_BYTES, SPACE_AT, MappedFile

#: Native byte order and alignment: the store is one instruction, and nobody reads half of it.
_COUNTER: Final = Struct("@Q")
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

    def check(self) -> None:
        """Raise BackendMisconfigured unless every counter page is in the file."""
        for _ in self._pages():
            pass

    def value(self, counter: int) -> int:
        """How many leases were released on `counter`, plus the value that it started from."""
        value: int = _COUNTER.unpack_from(self._file.memory, counter)[0]
        return value

    def store(self, counter: int, value: int) -> None:
        """Set a counter of this process. Does nothing if the file was truncated."""
        file = self._file
        if file.file_bytes() >= file.mapped_bytes:
            _COUNTER.pack_into(file.memory, counter, value)

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
        counters = range(page + _COUNTERS_AT, page + PAGE_BYTES, _COUNTER.size)
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
        if at + _COUNTER.size > self._file.mapped_bytes:
            self._file.map()
            if at + _COUNTER.size > self._file.mapped_bytes:
                raise self._file.damaged("the file is damaged")
