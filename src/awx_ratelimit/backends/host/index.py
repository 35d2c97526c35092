"""Where cells lie in the file: an index of buckets that grows and never moves a cell. Used under the lock of a shard.

For each size of cell a shard has levels, each of twice as many buckets as the level before. A level is one extent of
the file. The hash of a record selects one bucket per level, and the record's cell is in one of them. Growing adds a
level, so nothing is ever rebuilt, no step takes long, and a process can remember where a record's cell is.

The scopes of a subject are spread over neighboring buckets: they cannot fill one, and a reset finds them all.
"""

import logging
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from awx_ratelimit.backends.host.cell import HEAD, NEVER_WRITTEN, Half, encode_half, newest_half, write_half
from awx_ratelimit.backends.host.mapped_file import PAGE_BYTES, MappedFile
from awx_ratelimit.backends.host.record import SCOPE_BUCKETS
from awx_ratelimit.backends.host.shard import TRUNCATED, Shard
from awx_ratelimit.errors import BackendUnavailable

_log = logging.getLogger("awx_ratelimit")
#: Cells per bucket and bytes per cell, for each size class.
SIZE_CLASSES: Final = ((8, 512), (1, 4_096), (1, 32_768), (1, 262_144))
_MAX_LEVELS = 20
_ROOT = Struct(f"<{len(SIZE_CLASSES) * _MAX_LEVELS}Q")
_NO_EXTENTS = ((),) * len(SIZE_CLASSES)
_SMALL_CELLS, _SMALL_BYTES = SIZE_CLASSES[0]
#: The write number and the body length of each half in a bucket of small cells.
_HEADS = Struct("<" + f"{HEAD.format[1:]}{_SMALL_BYTES // 2 - HEAD.size}x" * (2 * _SMALL_CELLS))
#: The offset of each level's extent, for each size class.
_Extents: TypeAlias = tuple[tuple[int, ...], ...]


class Cell(NamedTuple):
    """A cell: its offset in the file, its size, and its newest half."""

    at: int
    cell_bytes: int
    newest: Half


class Index:
    """The index of every shard in one file."""

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        #: How many damaged cells were cleared.
        self.damaged = 0

    def check(self) -> None:
        """Raise BackendMisconfigured unless the root of every shard is valid and every extent is in the file."""
        for shard in self._file.shards:
            for size_class, extents in enumerate(self._extents(shard)):
                for level, extent_at in enumerate(extents):
                    if extent_at + (_bucket_bytes(size_class) << level) > self._file.file_bytes():
                        raise self._file.damaged(TRUNCATED)

    def buckets(self, shard: Shard, bucket_hash: int, size_class: int) -> list[int]:
        """The offsets of the buckets that can hold the record's cell, in the order of the levels."""
        size = _bucket_bytes(size_class)
        extents = self._extents(shard)[size_class]
        return [extent_at + (bucket_hash & (1 << level) - 1) * size for level, extent_at in enumerate(extents)]

    def find(self, shard: Shard, bucket_hash: int, size_class: int, digest: bytes) -> Cell | None:
        """The cell in this size class whose record has this digest, or None."""
        for bucket_at in self.buckets(shard, bucket_hash, size_class):
            for cell in self._matching(bucket_at, size_class, digest):
                return cell
        return None

    def cells_of_subject(self, shard: Shard, bucket_hash: int, size_class: int, subject_digest: bytes) -> list[Cell]:
        """The cells in this size class whose digests begin with that of a subject: one for each of its scopes."""
        size, found = _bucket_bytes(size_class), list[Cell]()
        for level, extent_at in enumerate(self._extents(shard)[size_class]):
            count = min(SCOPE_BUCKETS, 1 << level)
            first = extent_at + (bucket_hash & (1 << level) - count) * size
            for bucket_at in range(first, first + count * size, size):
                found += self._matching(bucket_at, size_class, subject_digest)
        return found

    def free_cell(self, shard: Shard, bucket_hash: int, size_class: int) -> Cell:
        """A free cell for the record; the index grows if there is none. Raises BackendUnavailable."""
        cell_bytes = SIZE_CLASSES[size_class][1]
        # Try the last level first: it has the most room.
        for bucket_at in reversed(self.buckets(shard, bucket_hash, size_class)):
            for at in self._free_candidates(bucket_at, size_class):
                half = newest_half(self._file.memory[at : at + cell_bytes])
                if half is not None and not half.body:
                    return Cell(at, cell_bytes, half)
        level = len(self._extents(shard)[size_class])
        extent_at = self._grow(shard, size_class, level)
        at = extent_at + (bucket_hash & (1 << level) - 1) * _bucket_bytes(size_class)
        return Cell(at, cell_bytes, NEVER_WRITTEN)

    def cell_for_sweep(self, shard: Shard, turn: int) -> tuple[int, int]:
        """The offset and size of the cell to sweep at this turn. Turns visit all cells in a cycle. (0, 0): no cells."""
        shard_extents = self._extents(shard)
        counts = [
            ((1 << len(extents)) - 1) * cells for extents, (cells, _) in zip(shard_extents, SIZE_CLASSES, strict=True)
        ]
        index = turn % (sum(counts) or 1)
        for extents, count, (cells, cell_bytes) in zip(shard_extents, counts, SIZE_CLASSES, strict=True):
            if index < count:
                level = (index // cells + 1).bit_length() - 1
                return extents[level] + (index - ((1 << level) - 1) * cells) * cell_bytes, cell_bytes
            index -= count
        return 0, 0

    def free(self, cell: Cell) -> None:
        """Mark a cell as free."""
        empty = encode_half(cell.newest.write_number + 1, b"")
        write_half(self._file.memory, cell.at, cell.cell_bytes, cell.newest.offset, empty)

    def clear_damaged(self, at: int, cell_bytes: int) -> None:
        """Free a cell in which no half is valid."""
        self._file.memory[at : at + cell_bytes] = bytes(cell_bytes)
        if not self.damaged:
            _log.error("%s: a record in the file is damaged; the usage recorded in it is lost", self._file.path)
        self.damaged += 1

    def _matching(self, bucket_at: int, size_class: int, prefix: bytes) -> Iterator[Cell]:
        """The cells of a bucket whose records have digests that begin with `prefix`."""
        cells, cell_bytes = SIZE_CLASSES[size_class]
        digests = self._digests(bucket_at, cells, cell_bytes, len(prefix))
        place, searched = digests.find(prefix), -1
        while place >= 0:
            number = place // cell_bytes if cells > 1 else 0
            if number != searched:
                at, searched = bucket_at + number * cell_bytes, number
                half = newest_half(self._file.memory[at : at + cell_bytes])
                if half is None:
                    self.clear_damaged(at, cell_bytes)
                elif half.body.startswith(prefix):
                    yield Cell(at, cell_bytes, half)
            place = digests.find(prefix, place + 1)

    def _digests(self, bucket_at: int, cells: int, cell_bytes: int, digest_bytes: int) -> bytes:
        """The part of a bucket that contains the digests of its cells."""
        memory = self._file.memory
        if cells > 1:
            return memory[bucket_at : bucket_at + cells * cell_bytes]
        middle, head_bytes = bucket_at + cell_bytes // 2, HEAD.size + digest_bytes
        return memory[bucket_at : bucket_at + head_bytes] + memory[middle : middle + head_bytes]

    def _free_candidates(self, bucket_at: int, size_class: int) -> list[int]:
        """The cells of a bucket that may be free, judged by the heads of their halves."""
        if size_class:
            return [bucket_at]
        heads = iter(_HEADS.unpack_from(self._file.memory, bucket_at))
        pairs = enumerate(zip(heads, heads, heads, heads, strict=True))
        return [
            bucket_at + index * _SMALL_BYTES
            for index, (first_write, first_bytes, second_write, second_bytes) in pairs
            if not (first_bytes if first_write >= second_write else second_bytes)
        ]

    def _extents(self, shard: Shard) -> _Extents:
        return self._root(shard)[1]

    def _root(self, shard: Shard) -> tuple[Half, _Extents]:
        at = PAGE_BYTES * (1 + shard.number)
        page = self._file.memory[at : at + PAGE_BYTES]
        if page != shard.root_page:
            half = newest_half(page)
            if half is None or not half.write_number or len(half.body) not in (0, _ROOT.size):
                raise self._file.damaged("the file is damaged")
            shard.root = half, _decode_extents(half.body)
            # Another process may have made the file larger.
            if self._file.file_bytes() > len(self._file.memory):
                self._file.map()
            shard.root_page = page
        root: tuple[Half, _Extents] = shard.root
        return root

    def _grow(self, shard: Shard, size_class: int, level: int) -> int:
        """Add a level; the offset of its extent."""
        if level == _MAX_LEVELS:
            raise BackendUnavailable(f"{self._file.path}: the file has no room for more subjects")
        half, shard_extents = self._root(shard)
        extent_at = self._file.allocate(_bucket_bytes(size_class) << level)
        numbers = [0] * (len(SIZE_CLASSES) * _MAX_LEVELS)
        for index, extents in enumerate(shard_extents):
            grown = (*extents, extent_at) if index == size_class else extents
            numbers[index * _MAX_LEVELS : index * _MAX_LEVELS + len(grown)] = grown
        root = encode_half(half.write_number + 1, _ROOT.pack(*numbers))
        # A process that is killed before this write loses the extent: the file is larger, and nobody uses it.
        write_half(self._file.memory, PAGE_BYTES * (1 + shard.number), PAGE_BYTES, half.offset, root)
        return extent_at


def _bucket_bytes(size_class: int) -> int:
    cells, cell_bytes = SIZE_CLASSES[size_class]
    return cells * cell_bytes


def _decode_extents(body: bytes) -> _Extents:
    if not body:
        return _NO_EXTENTS
    numbers = _ROOT.unpack(body)
    classes = (numbers[index * _MAX_LEVELS : (index + 1) * _MAX_LEVELS] for index in range(len(SIZE_CLASSES)))
    return tuple(tuple(extent_at for extent_at in extents if extent_at) for extents in classes)
