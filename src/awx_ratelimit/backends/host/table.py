"""The records in the shared file: reading, writing, deleting and sweeping. Used under the lock of a shard.

A write goes to the half of the cell that is not in use, so the process may be killed at any instruction. A record
that outgrows its cell is written to a larger one first, and then the old cell is freed.
"""

from collections.abc import Callable
from hashlib import blake2b

from awx_ratelimit.backends.host.cell import NEVER_WRITTEN, OVERHEAD_BYTES, Half, cell_identity, newest_half, write_half
from awx_ratelimit.backends.host.index import SIZE_CLASSES, Cell, Index
from awx_ratelimit.backends.host.leases import HostLeases, LeaseCounters
from awx_ratelimit.backends.host.mapped_file import SHARDS, MappedFile
from awx_ratelimit.backends.host.open_section import PackedClaims
from awx_ratelimit.backends.host.record import (
    DIGEST_BYTES,
    SUBJECT_DIGEST_BYTES,
    HostLedger,
    InvalidRecord,
    decode,
    encode,
    is_recent,
)
from awx_ratelimit.backends.host.shard import Shard, Stale
from awx_ratelimit.core.budget import Record, subject_of
from awx_ratelimit.errors import BackendUnavailable

#: Cells to sweep per new record. Enough to keep idle subjects from accumulating.
_CELLS_PER_SWEEP = 2


class Table:
    """The records in one opened file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.counters = LeaseCounters(file)
        self.leases = HostLeases(self.counters)
        self._index = Index(file)
        self._index.check()

    @property
    def damaged(self) -> int:
        """How many damaged cells were cleared."""
        return self._index.damaged

    def place(self, ledger: HostLedger) -> None:
        """Make `ledger` the state of its record in this file.

        All scopes of a subject are in one shard, so that a reset clears them in one step.
        """
        digest = self._digest(ledger.record)
        ledger.place(digest)
        ledger.shard = self.file.shards[digest[0] % SHARDS]
        ledger.table = self

    def _digest(self, record: Record) -> bytes:
        # "surrogatepass": a lone surrogate is a valid subject too. The secret key prevents chosen collisions.
        text, key = subject_of(record).encode("utf-8", "surrogatepass"), self.file.secret
        digest = blake2b(text, digest_size=SUBJECT_DIGEST_BYTES, key=key).digest()
        scope_bytes = DIGEST_BYTES - SUBJECT_DIGEST_BYTES
        if isinstance(record, str):
            return digest + bytes(scope_bytes)
        return digest + blake2b(record.scope.encode(), digest_size=scope_bytes, key=key).digest()

    def read(self, ledger: HostLedger) -> bool:
        """Load what the file has about the record; whether it has anything. Raises Stale."""
        if ledger.evicted:
            raise Stale
        at = ledger.cell_at
        if at:
            memory, cell_bytes = self.file.memory, ledger.cell_bytes
            if cell_identity(memory, at, cell_bytes) == ledger.cached_cell:
                return True
            half = newest_half(memory[at : at + cell_bytes])
            if half is not None and half.body.startswith(ledger.digest):
                self._load(ledger, Cell(at, cell_bytes, half))
                return True
        return self._search(ledger)

    def write(self, ledger: HostLedger, now_ms: int, *, sweeps: bool = True) -> None:
        """Write `ledger`, which must have been read under the same lock and have `cached_cell` None since its change.

        A new record also sweeps. Pass ``sweeps=False`` until all records of a claim are written: a sweep could free a
        cell that the claim still needs. Raises BackendUnavailable if there is no room, and ValueError for a time that
        does not fit.
        """
        write_number, at, cell_bytes = ledger.write_number + 1, ledger.cell_at, ledger.cell_bytes
        record, rows = encode(ledger, write_number), ledger.open_rows
        half_bytes, record_bytes = cell_bytes // 2, len(record)
        if not at or record_bytes + len(rows) > half_bytes:
            self._write_to_other_cell(ledger, record_bytes + len(rows))
            if sweeps:
                self.sweep(ledger.shard, now_ms)
            return
        # `write_half`, inlined: every charge comes through here.
        memory, half_offset = self.file.memory, half_bytes - ledger.half_offset
        written_at = at + half_offset
        if rows:
            memory[written_at + record_bytes : written_at + record_bytes + len(rows)] = rows
        memory[written_at : written_at + record_bytes] = record
        ledger.write_number = write_number
        ledger.half_offset = half_offset
        ledger.cached_cell = cell_identity(memory, at, cell_bytes)

    def write_leases(self, ledger: HostLedger, now_ms: int) -> None:
        """Write the leases of this process, which the file may not have yet. Raises as `read` and `write` do."""
        ledger.cached_cell = None
        if self.read(ledger) or ledger.holds_leases():
            ledger.cached_cell = None
            self.leases.ensure_counters(ledger)
            self.write(ledger, now_ms)

    def delete(self, ledger: HostLedger) -> None:
        """Remove the record from the file: the largest cell first, so that no older record takes effect again."""
        for size_class in reversed(range(len(SIZE_CLASSES))):
            cell = self._index.find(ledger.shard, ledger.bucket_hash, size_class, ledger.digest)
            if cell is not None:
                self._index.free(cell)
        ledger.cell_at, ledger.cached_cell = 0, None

    def clear_subject(self, ledger: HostLedger, now_ms: int) -> bool:
        """Clear the debts of the subject of `ledger` in all its scopes; leases stay. Returns whether any was left."""
        found: dict[bytes, list[Cell]] = {}
        subject_digest = ledger.digest[:SUBJECT_DIGEST_BYTES]
        for size_class in reversed(range(len(SIZE_CLASSES))):
            for cell in self._index.cells_of_subject(ledger.shard, ledger.bucket_hash, size_class, subject_digest):
                found.setdefault(cell.newest.body[:DIGEST_BYTES], []).append(cell)
        was_in_debt = False
        for cells in found.values():
            # As in `delete`: the last cell is the smallest, whose record counts.
            for leftover in cells[:-1]:
                self._index.free(leftover)
            was_in_debt |= self._clear(cells[-1], now_ms)
        return was_in_debt

    def _clear(self, cell: Cell, now_ms: int) -> bool:
        """`clear` for the record in `cell`. Nobody may know its scope any more."""
        ledger = HostLedger("", None)
        ledger.place(cell.newest.body[:DIGEST_BYTES])
        self._load(ledger, cell, lambda _: False)
        ledger.cached_cell = None
        was_in_debt = ledger.is_in_debt(now_ms)
        ledger.forget()
        if self.leases.any_held(ledger, now_ms):
            self.write(ledger, now_ms)
        else:
            self._index.free(cell)
        return was_in_debt

    def clear(self, ledger: HostLedger, now_ms: int) -> bool:
        """Clear the debts of a record; leases stay. Returns whether any was left."""
        if not self.read(ledger):
            return False
        ledger.cached_cell = None
        was_in_debt = ledger.is_in_debt(now_ms)
        ledger.forget()
        if self.leases.held(ledger, 0, now_ms):
            self.write(ledger, now_ms)
        else:
            self.delete(ledger)
        return was_in_debt

    def sweep(self, shard: Shard, now_ms: int) -> None:
        """Check the next few cells of the shard, and free those of records that owe nothing and hold nothing."""
        for _ in range(_CELLS_PER_SWEEP):
            shard.sweep_turn += 1
            at, cell_bytes = self._index.cell_for_sweep(shard, shard.sweep_turn)
            half = newest_half(self.file.memory[at : at + cell_bytes]) if at else NEVER_WRITTEN
            if half is None:
                self._index.clear_damaged(at, cell_bytes)
            elif half.body and not self._is_needed(half.body, now_ms):
                self._index.free(Cell(at, cell_bytes, half))

    def _search(self, ledger: HostLedger) -> bool:
        for size_class in range(len(SIZE_CLASSES)):
            cell = self._index.find(ledger.shard, ledger.bucket_hash, size_class, ledger.digest)
            if cell is not None:
                self._load(ledger, cell)
                return True
        ledger.cell_at, ledger.cached_cell = 0, None
        ledger.clear()
        return False

    def _load(self, ledger: HostLedger, cell: Cell, is_own: Callable[[int], bool] | None = None) -> None:
        ledger.cell_at, ledger.cell_bytes, (ledger.half_offset, ledger.write_number, body) = cell
        try:
            decode(ledger, body, is_own or self.counters.is_own)
        except InvalidRecord as error:
            raise self.file.damaged("a record in the file cannot be decoded") from error
        if isinstance(ledger.open, PackedClaims):
            at = cell.at + cell.newest.offset + OVERHEAD_BYTES + len(body)
            ledger.open.load_rows(lambda number: self.file.memory[at : at + number])
        ledger.cached_cell = cell_identity(self.file.memory, cell.at, cell.cell_bytes)

    def _write_to_other_cell(self, ledger: HostLedger, record_bytes: int) -> None:
        max_bytes = SIZE_CLASSES[-1][1] // 2
        excess_bytes = record_bytes - max_bytes
        if excess_bytes > 0 and isinstance(ledger.open, PackedClaims) and ledger.open.drop_bytes(excess_bytes):
            record_bytes = len(encode(ledger, 0)) + len(ledger.open_rows)
        fitting = (number for number, (_, size) in enumerate(SIZE_CLASSES) if size >= 2 * record_bytes)
        size_class = next(fitting, None)
        if size_class is None:
            raise BackendUnavailable(
                f"the state of {subject_of(ledger.record)!r} needs {record_bytes:,} bytes, and a host file stores at "
                f"most {max_bytes:,} per subject and scope; use fewer limits or slots"
            )
        # A process that was killed at this point may have left a record in the larger cell. Overwrite it.
        leftover = (
            self._index.find(ledger.shard, ledger.bucket_hash, size_class, ledger.digest) if ledger.cell_at else None
        )
        cell = leftover or self._index.free_cell(ledger.shard, ledger.bucket_hash, size_class)
        write_number = cell.newest.write_number + 1
        record = encode(ledger, write_number)
        memory, rows = self.file.memory, ledger.open_rows
        half_offset = write_half(memory, cell.at, cell.cell_bytes, cell.newest.offset, record, rows)
        if ledger.cell_at:
            self._index.free(
                Cell(ledger.cell_at, ledger.cell_bytes, Half(ledger.half_offset, ledger.write_number, b""))
            )
        # Last: a thread that is interrupted before this reads the same cells as everybody else.
        ledger.cell_at, ledger.cell_bytes = cell.at, cell.cell_bytes
        ledger.half_offset, ledger.write_number = half_offset, write_number
        ledger.cached_cell = cell_identity(self.file.memory, cell.at, cell.cell_bytes)

    def _is_needed(self, body: bytes, now_ms: int) -> bool:
        if is_recent(body, now_ms):
            return True
        ledger = HostLedger("", None)
        try:
            decode(ledger, body, lambda _: False)
        except InvalidRecord:
            return False
        return ledger.owes(now_ms) or self.leases.any_held(ledger, now_ms)
