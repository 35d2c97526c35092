"""The subjects in a shared file: read, written, given up and swept. Used under the lock of a stripe.

What is written goes into the half of the cell that is not read, so that a process may be killed anywhere. Who outgrows
a cell is written into a larger one first, and only then is the old one given up.
"""

import logging
from hashlib import blake2b

from awx_ratelimit.backends.host.cell import HEAD, Newest, half, newest
from awx_ratelimit.backends.host.index import CLASSES, Cell, Levels
from awx_ratelimit.backends.host.lease_counters import Desks
from awx_ratelimit.backends.host.leases import HostLeases
from awx_ratelimit.backends.host.locks import Shut, Stripe
from awx_ratelimit.backends.host.mapped_file import STRIPES, HostFile
from awx_ratelimit.backends.host.record import DIGEST_BYTES, Damaged, HostLedger, charged_of_late, decode, encoded
from awx_ratelimit.errors import BackendUnavailable

#: With each new subject: with every cell looked at in turn, few of those that are needed no more are in the way.
_SWEPT_AT_ONCE = 2
_NOTHING = Newest(0, 0, b"")
_log = logging.getLogger("awx_ratelimit")


class Table:
    """The subjects in one opened file."""

    def __init__(self, file: HostFile) -> None:
        self.file = file
        self.desks = Desks(file)
        self.leases = HostLeases(self.desks)
        self._levels = Levels(file)
        self._levels.check()
        self.desks.check()
        #: Cells that said nothing that can be understood, and were forgotten.
        self.damaged = 0

    def place(self, ledger: HostLedger) -> None:
        """Let `ledger` lie in this file, wherever that is."""
        # A lone surrogate is a subject too. The secret keeps everybody from making subjects that lie on one another.
        text = ledger.subject.encode("utf-8", "surrogatepass")
        digest = blake2b(text, digest_size=DIGEST_BYTES, key=self.file.secret).digest()
        ledger.place(digest, int.from_bytes(digest[8:]))
        ledger.stripe = self.file.stripes[digest[0] % STRIPES]
        ledger.table = self

    def read(self, ledger: HostLedger) -> bool:
        """Make `ledger` say what the file says; whether it says anything. Raises Shut."""
        if ledger.left:
            raise Shut
        at = ledger.at
        if at:
            cell = self.file.memory[at : at + ledger.cell_bytes]
            if cell == ledger.seen:
                return True
            said = newest(cell)
            if said is not None and said.body.startswith(ledger.digest):
                self._read(ledger, Cell(at, ledger.cell_bytes, said), cell)
                return True
        return self._search(ledger)

    def write(self, ledger: HostLedger, now_ms: int) -> None:
        """Write what `ledger` says, which was read under the same lock and whose `seen` is None since it was changed.

        Raises BackendUnavailable where there is no room, and ValueError for a time that cannot be written.
        """
        write, at, cell_bytes = ledger.write + 1, ledger.at, ledger.cell_bytes
        record = encoded(ledger, write)
        half_bytes = cell_bytes // 2
        if not at or len(record) > half_bytes:
            self._write_elsewhere(ledger, len(record))
            self.sweep(ledger.stripe, now_ms)
            return
        memory, write_at = self.file.memory, half_bytes - ledger.write_at
        memory[at + write_at : at + write_at + len(record)] = record
        ledger.write = write
        ledger.write_at = write_at
        ledger.seen = memory[at : at + cell_bytes]

    def give_up(self, ledger: HostLedger) -> None:
        """Know nothing more of the subject: the largest cell first, so that no older one comes to light."""
        for number in reversed(range(len(CLASSES))):
            cell = self._found(ledger, number)
            if cell is not None:
                self._give_up(cell)
        ledger.at, ledger.seen = 0, None

    def sweep(self, stripe: Stripe, now_ms: int) -> None:
        """Look at the next cells: who owes nothing and holds nothing there is forgotten."""
        for _ in range(_SWEPT_AT_ONCE):
            stripe.swept += 1
            at, cell_bytes = self._levels.cell(stripe, stripe.swept)
            said = newest(self.file.memory[at : at + cell_bytes]) if at else _NOTHING
            if said is None:
                self._forget_damaged(at, cell_bytes)
            elif said.body and not self._is_needed(said.body, now_ms):
                self._give_up(Cell(at, cell_bytes, said))

    def _search(self, ledger: HostLedger) -> bool:
        for number in range(len(CLASSES)):
            cell = self._found(ledger, number)
            if cell is not None:
                self._read(ledger, cell, self.file.memory[cell.at : cell.at + cell.cell_bytes])
                return True
        ledger.at, ledger.seen = 0, None
        ledger.forget_all()
        return False

    def _read(self, ledger: HostLedger, cell: Cell, seen: bytes) -> None:
        ledger.at, ledger.cell_bytes, (ledger.write_at, ledger.write, body) = cell
        try:
            decode(ledger, body, self.desks.is_mine)
        except Damaged as error:
            raise self.file.damaged("it says what cannot be understood") from error
        ledger.seen = seen

    def _write_elsewhere(self, ledger: HostLedger, wanted_bytes: int) -> None:
        number = next((number for number, (_, size) in enumerate(CLASSES) if size >= 2 * wanted_bytes), None)
        if number is None:
            raise BackendUnavailable(f"{ledger.subject!r} owes and holds more than a host's file can say")
        # What a process that was killed in here has left in the larger cell is written over.
        left = self._found(ledger, number) if ledger.at else None
        cell = left or self._levels.free(ledger.stripe, ledger.number, number)
        record = encoded(ledger, cell.newest.write + 1)
        write_at = cell.cell_bytes // 2 - cell.newest.at
        self.file.memory[cell.at + write_at : cell.at + write_at + len(record)] = record
        if ledger.at:
            self._give_up(Cell(ledger.at, ledger.cell_bytes, Newest(ledger.write_at, ledger.write, b"")))
        # Not before: who is interrupted in between reads what everybody reads.
        ledger.at, ledger.cell_bytes = cell.at, cell.cell_bytes
        ledger.write_at, ledger.write = write_at, cell.newest.write + 1
        ledger.seen = self.file.memory[cell.at : cell.at + cell.cell_bytes]

    def _give_up(self, cell: Cell) -> None:
        nothing = half(cell.newest.write + 1, b"")
        at = cell.at + cell.cell_bytes // 2 - cell.newest.at
        self.file.memory[at : at + len(nothing)] = nothing

    def _found(self, ledger: HostLedger, number: int) -> Cell | None:
        """The subject's cell of class `number`."""
        cells, cell_bytes = CLASSES[number]
        for bucket_at in self._levels.way(ledger.stripe, ledger.number, number):
            bucket = self._bucket(bucket_at, cells, cell_bytes)
            place = bucket.find(ledger.digest)
            while place >= 0:
                at = bucket_at + (place // cell_bytes * cell_bytes if cells > 1 else 0)
                said = newest(self.file.memory[at : at + cell_bytes])
                if said is None:
                    self._forget_damaged(at, cell_bytes)
                elif said.body.startswith(ledger.digest):
                    return Cell(at, cell_bytes, said)
                place = bucket.find(ledger.digest, place + 1)
        return None

    def _bucket(self, at: int, cells: int, cell_bytes: int) -> bytes:
        """A bucket as far as it says whose its cells are."""
        memory = self.file.memory
        if cells > 1:
            return memory[at : at + cells * cell_bytes]
        middle, head_bytes = at + cell_bytes // 2, HEAD.size + DIGEST_BYTES
        return memory[at : at + head_bytes] + memory[middle : middle + head_bytes]

    def _forget_damaged(self, at: int, cell_bytes: int) -> None:
        self.file.memory[at : at + cell_bytes] = bytes(cell_bytes)
        if not self.damaged:
            _log.error("%s: a part of it is damaged; what was used there is forgotten", self.file.path)
        self.damaged += 1

    def _is_needed(self, body: bytes, now_ms: int) -> bool:
        if charged_of_late(body, now_ms):
            return True
        scratch = HostLedger("", None)
        try:
            decode(scratch, body, lambda _: False)
        except Damaged:
            return False
        return scratch.owes(now_ms) or self.leases.are_open(scratch, now_ms)
