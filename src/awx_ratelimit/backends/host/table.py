"""The subjects in the shared file: reading, writing, deleting and sweeping. Used under the lock of a shard.

A write goes to the half of the cell that is not in use, so the process may be killed at any instruction. A subject
that outgrows its cell is written to a larger one first, and then the old cell is freed.

A killed process leaves only whole records, but a power cut may not. The file therefore stores in which boot of the
machine it was last found sound. If it is damaged in that same boot, somebody damaged it, and opening it is an error. A
file that a power cut damaged is renamed.
"""

import logging
import os
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from awx_ratelimit.backends.host.cell import HEAD, NEVER_WRITTEN, Half, encode_half, newest_half, write_half
from awx_ratelimit.backends.host.index import SIZE_CLASSES, Cell, Index
from awx_ratelimit.backends.host.leases import HostLeases, LeaseCounters
from awx_ratelimit.backends.host.locks import ByteLock, remaining_ms
from awx_ratelimit.backends.host.mapped_file import CREATION_LOCK, SHARDS, FileDamaged, MappedFile
from awx_ratelimit.backends.host.record import DIGEST_BYTES, HostLedger, InvalidRecord, decode, encode, is_recent
from awx_ratelimit.backends.host.shard import Shard, Stale
from awx_ratelimit.errors import BackendUnavailable

#: Cells to sweep per new subject. Enough to keep idle subjects from accumulating.
_CELLS_PER_SWEEP = 2
_log = logging.getLogger("awx_ratelimit")


class Table:
    """The subjects in one opened file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.counters = LeaseCounters(file)
        self.leases = HostLeases(self.counters)
        self._index = Index(file)
        self._index.check()
        #: How many damaged cells were cleared.
        self.damaged = 0

    def place(self, ledger: HostLedger) -> None:
        """Make `ledger` the state of its subject in this file."""
        # "surrogatepass": a lone surrogate is a valid subject too. The secret key prevents chosen collisions.
        text = ledger.subject.encode("utf-8", "surrogatepass")
        digest = blake2b(text, digest_size=DIGEST_BYTES, key=self.file.secret).digest()
        ledger.place(digest)
        ledger.shard = self.file.shards[digest[0] % SHARDS]
        ledger.table = self

    def read(self, ledger: HostLedger) -> bool:
        """Load what the file has about the subject; whether it has anything. Raises Stale."""
        if ledger.evicted:
            raise Stale
        at = ledger.cell_at
        if at:
            content = self.file.memory[at : at + ledger.cell_bytes]
            if content == ledger.cached_cell:
                return True
            half = newest_half(content)
            if half is not None and half.body.startswith(ledger.digest):
                self._load(ledger, Cell(at, ledger.cell_bytes, half), content)
                return True
        return self._search(ledger)

    def write(self, ledger: HostLedger, now_ms: int) -> None:
        """Write `ledger`, which must have been read under the same lock and have `cached_cell` None since its change.

        Raises BackendUnavailable if there is no room, and ValueError for a time that does not fit.
        """
        write_number, at, cell_bytes = ledger.write_number + 1, ledger.cell_at, ledger.cell_bytes
        record = encode(ledger, write_number)
        half_bytes = cell_bytes // 2
        if not at or len(record) > half_bytes:
            self._write_to_other_cell(ledger, len(record))
            self.sweep(ledger.shard, now_ms)
            return
        # `write_half`, inlined: every charge comes through here.
        memory, half_offset = self.file.memory, half_bytes - ledger.half_offset
        memory[at + half_offset : at + half_offset + len(record)] = record
        ledger.write_number = write_number
        ledger.half_offset = half_offset
        ledger.cached_cell = memory[at : at + cell_bytes]

    def write_leases(self, ledger: HostLedger, now_ms: int) -> None:
        """Write the leases of this process, which the file may not have yet. Raises as `read` and `write` do."""
        ledger.cached_cell = None
        if self.read(ledger) or ledger.holds_leases():
            ledger.cached_cell = None
            self.leases.ensure_counters(ledger)
            self.write(ledger, now_ms)

    def delete(self, ledger: HostLedger) -> None:
        """Remove the subject from the file: the largest cell first, so that no older record takes effect again."""
        for size_class in reversed(range(len(SIZE_CLASSES))):
            cell = self._find(ledger, size_class)
            if cell is not None:
                self._free(cell)
        ledger.cell_at, ledger.cached_cell = 0, None

    def sweep(self, shard: Shard, now_ms: int) -> None:
        """Check the next few cells of the shard, and free those of subjects that owe nothing and hold nothing."""
        for _ in range(_CELLS_PER_SWEEP):
            shard.sweep_turn += 1
            at, cell_bytes = self._index.cell_for_sweep(shard, shard.sweep_turn)
            half = newest_half(self.file.memory[at : at + cell_bytes]) if at else NEVER_WRITTEN
            if half is None:
                self._clear_damaged(at, cell_bytes)
            elif half.body and not self._is_needed(half.body, now_ms):
                self._free(Cell(at, cell_bytes, half))

    def _search(self, ledger: HostLedger) -> bool:
        for size_class in range(len(SIZE_CLASSES)):
            cell = self._find(ledger, size_class)
            if cell is not None:
                self._load(ledger, cell, self.file.memory[cell.at : cell.at + cell.cell_bytes])
                return True
        ledger.cell_at, ledger.cached_cell = 0, None
        ledger.clear()
        return False

    def _load(self, ledger: HostLedger, cell: Cell, content: bytes) -> None:
        ledger.cell_at, ledger.cell_bytes, (ledger.half_offset, ledger.write_number, body) = cell
        try:
            decode(ledger, body, self.counters.is_own)
        except InvalidRecord as error:
            raise self.file.damaged("a record in the file cannot be decoded") from error
        ledger.cached_cell = content

    def _write_to_other_cell(self, ledger: HostLedger, record_bytes: int) -> None:
        fitting = (number for number, (_, size) in enumerate(SIZE_CLASSES) if size >= 2 * record_bytes)
        size_class = next(fitting, None)
        if size_class is None:
            max_bytes = SIZE_CLASSES[-1][1] // 2
            raise BackendUnavailable(
                f"the state of {ledger.subject!r} needs {record_bytes:,} bytes, and a host file stores at most "
                f"{max_bytes:,} per subject; use fewer limits or slots"
            )
        # A process that was killed at this point may have left a record in the larger cell. Overwrite it.
        leftover = self._find(ledger, size_class) if ledger.cell_at else None
        cell = leftover or self._index.free_cell(ledger.shard, ledger.subject_hash, size_class)
        write_number = cell.newest.write_number + 1
        record = encode(ledger, write_number)
        half_offset = write_half(self.file.memory, cell.at, cell.cell_bytes, cell.newest.offset, record)
        if ledger.cell_at:
            self._free(Cell(ledger.cell_at, ledger.cell_bytes, Half(ledger.half_offset, ledger.write_number, b"")))
        # Last: a thread that is interrupted before this reads the same cells as everybody else.
        ledger.cell_at, ledger.cell_bytes = cell.at, cell.cell_bytes
        ledger.half_offset, ledger.write_number = half_offset, write_number
        ledger.cached_cell = self.file.memory[cell.at : cell.at + cell.cell_bytes]

    def _free(self, cell: Cell) -> None:
        empty = encode_half(cell.newest.write_number + 1, b"")
        write_half(self.file.memory, cell.at, cell.cell_bytes, cell.newest.offset, empty)

    def _find(self, ledger: HostLedger, size_class: int) -> Cell | None:
        """The subject's cell in this size class, or None."""
        cells, cell_bytes = SIZE_CLASSES[size_class]
        for bucket_at in self._index.buckets(ledger.shard, ledger.subject_hash, size_class):
            digests = self._digests(bucket_at, cells, cell_bytes)
            place = digests.find(ledger.digest)
            while place >= 0:
                at = bucket_at + (place // cell_bytes * cell_bytes if cells > 1 else 0)
                half = newest_half(self.file.memory[at : at + cell_bytes])
                if half is None:
                    self._clear_damaged(at, cell_bytes)
                elif half.body.startswith(ledger.digest):
                    return Cell(at, cell_bytes, half)
                place = digests.find(ledger.digest, place + 1)
        return None

    def _digests(self, bucket_at: int, cells: int, cell_bytes: int) -> bytes:
        """The part of a bucket that contains the digests of its cells."""
        memory = self.file.memory
        if cells > 1:
            return memory[bucket_at : bucket_at + cells * cell_bytes]
        middle, head_bytes = bucket_at + cell_bytes // 2, HEAD.size + DIGEST_BYTES
        return memory[bucket_at : bucket_at + head_bytes] + memory[middle : middle + head_bytes]

    def _clear_damaged(self, at: int, cell_bytes: int) -> None:
        self.file.memory[at : at + cell_bytes] = bytes(cell_bytes)
        if not self.damaged:
            _log.error("%s: a record in the file is damaged; the usage recorded in it is lost", self.file.path)
        self.damaged += 1

    def _is_needed(self, body: bytes, now_ms: int) -> bool:
        if is_recent(body, now_ms):
            return True
        ledger = HostLedger("", None)
        try:
            decode(ledger, body, lambda _: False)
        except InvalidRecord:
            return False
        return ledger.owes(now_ms) or self.leases.any_held(ledger, now_ms)


#: Where the header stores the boot id.
_BOOT_ID_AT = 1024


def _read_boot_id() -> bytes:
    """The id of this boot of the machine; empty if the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return b""


_BOOT_ID = _read_boot_id()


def open_table(path: str, wait_ms: int, *, allow_other_users: bool) -> Table:
    """The table in the file at `path`, which is created if it is missing. Raises as MappedFile does."""
    until_s = time.monotonic() + wait_ms / 1000
    file = MappedFile(path, wait_ms, allow_other_users=allow_other_users)
    try:
        table = Table(file)
    except FileDamaged:
        if not _is_from_earlier_boot(file):
            raise
        _set_aside(file, remaining_ms(until_s))
        file = MappedFile(path, remaining_ms(until_s), allow_other_users=allow_other_users)
        table = Table(file)
    if _is_from_earlier_boot(file):
        os.pwrite(file.fd, _BOOT_ID, _BOOT_ID_AT)
    return table


def _is_from_earlier_boot(file: MappedFile) -> bool:
    return os.pread(file.fd, len(_BOOT_ID), _BOOT_ID_AT) != _BOOT_ID


def _set_aside(file: MappedFile, wait_ms: int) -> None:
    """Rename the file so that a new one can be created at its path, unless another process did so. Closes it.

    If the folder does not allow a rename, the damaged file stays where it is.
    """
    creation_lock = ByteLock(file.fd, CREATION_LOCK)
    with suppress(OSError):
        if creation_lock.wait(wait_ms) and file.is_at_path():
            Path(file.path).rename(f"{file.path}.damaged")
            _log.error(
                "%s: the file was damaged when the machine stopped. It is now %s.damaged; a new file is used, and the "
                "usage recorded in the old one is lost", file.path, file.path,
            )  # fmt: skip
    file.close()
