"""Who holds leases on a host, and how many each has given back: a desk for each process, which it alone writes on.

A desk is a page of the file: the number of its process, the next desk, and words. A record says how many leases a
process was granted by a word; the word says how many of them were given back, and only ever grows. So giving a slot
back is one store of eight bytes, without a lock and seen by all at once; a store that comes late, or is lost with its
process, makes others think that more is held, never less. A word that serves another subject later goes on from what it
says, and what older records say of it counts for nothing.

A process holds the lock on a byte of its own number while it lives, and the kernel gives it back however it ends, in
whatever namespace; a stopped process keeps it. The desks of the dead are taken by the next who need one.
"""

import os
import time
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from awx_ratelimit.backends.host.locks import LIFE_BITS, ByteLock, is_free, life_lock
from awx_ratelimit.backends.host.mapped_file import DESKS_AT, PAGE_BYTES, ROOM_AT, HostFile

#: Native, and so one instruction: nobody sees half of it.
_WORD: Final = Struct("@Q")
_WORDS_AT = 16
_NEXT_AT = 8
_PAGE = -PAGE_BYTES
#: How far the words of a desk that is taken over jump: beyond all that its last owner can have been granted.
_GENERATION_BITS = 32


class Desks:
    """The desks in one opened file, and those of this process, which is one that lives from now on."""

    def __init__(self, file: HostFile) -> None:
        self._file = file
        self._free: list[int] = []
        self._mine: set[int] = set()
        self._seen_alive: set[int] = set()
        self._me = 0
        self._life: ByteLock
        while not self._me or self._life.take():
            self._me = int.from_bytes(os.urandom(8)) >> 64 - LIFE_BITS
            self._life = life_lock(file.fd, self._me)

    def check(self) -> None:
        """Raise BackendMisconfigured unless every desk is there."""
        for _ in self._all():
            pass

    def value(self, word: int) -> int:
        """How many leases were given back by `word`, from whatever it began with."""
        value: int = _WORD.unpack_from(self._file.memory, word)[0]
        return value

    def put(self, word: int, value: int) -> None:
        """Let `word`, which is this process's, say `value`. What is not there any more is not touched."""
        file = self._file
        if file.file_bytes() >= file.mapped_bytes:
            _WORD.pack_into(file.memory, word, value)

    def word(self) -> int:
        """A word that no subject of this process has. Raises BackendUnavailable where there is no room for more."""
        while True:
            try:
                return self._free.pop()
            except IndexError:
                self._file.growing.run(self._take_desk)

    def give_up(self, words: Iterable[int]) -> None:
        """Let these words serve other subjects: all that was granted by them was given back."""
        self._free.extend(words)

    def is_mine(self, word: int) -> bool:
        """Whether `word` is on a desk of this process."""
        return word & _PAGE in self._mine

    def open(self, word: int, granted: int, *, surely: bool) -> int:
        """How many leases of another process are open by `word`; none if it is dead.

        Unless `surely`, who was seen alive since the last `look_again` still is.
        """
        self._reach(word)
        opened = granted - self.value(word)
        if opened <= 0 or not ((not surely and word & _PAGE in self._seen_alive) or self._is_alive(word & _PAGE)):
            return 0
        return opened

    def look_again(self) -> None:
        """Trust no earlier look at who is alive."""
        self._seen_alive = set()

    def _is_alive(self, desk: int) -> bool:
        alive = not is_free(self._file.fd, self.value(desk))
        if alive:
            self._seen_alive.add(desk)
        return alive

    def _take_desk(self) -> None:
        """Sit down at the desk of somebody who is dead, or at a new one."""
        last = DESKS_AT - _NEXT_AT
        for desk in self._all():
            last = desk
            if desk not in self._mine and not self._is_alive(desk):
                break
        else:
            desk = self._file.grow_alone(PAGE_BYTES)
        words = range(desk + _WORDS_AT, desk + PAGE_BYTES, _WORD.size)
        # After a power cut the words may be older than the records that count by them; the time is not.
        generation = max((max(self.value(word) for word in words) >> _GENERATION_BITS) + 2, int(time.time()))
        for word in words:
            self.put(word, generation << _GENERATION_BITS)
        self.put(desk, self._me)
        self._mine.add(desk)
        if desk != last:
            # The last step: who is killed before it has made the file larger for nobody.
            self.put(last + _NEXT_AT, desk)
        self._free.extend(words)

    def _all(self) -> Iterator[int]:
        desk, most = self.value(DESKS_AT), self._file.file_bytes() // PAGE_BYTES
        while desk:
            if desk % PAGE_BYTES or desk < ROOM_AT or not most:
                raise self._file.damaged("it is damaged")
            self._reach(desk)
            yield desk
            desk, most = self.value(desk + _NEXT_AT), most - 1

    def _reach(self, at: int) -> None:
        """See the page at `at`, where the file may have become larger."""
        if at + _WORD.size > self._file.mapped_bytes:
            self._file.map()
            if at + _WORD.size > self._file.mapped_bytes:
                raise self._file.damaged("it is damaged")
