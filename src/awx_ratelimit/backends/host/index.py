"""Where cells lie in the shared file: levels of buckets that grow and never move. Used under the lock of a stripe.

A stripe has levels, each of twice as many buckets as the one before, for each class of cells. A subject lies in a cell
that was free in one of the buckets on its way through them. So nothing has to be rebuilt when it grows, no step is
long, and where a subject was seen once, it is found again without a search.
"""

from struct import Struct
from typing import Final, NamedTuple

from awx_ratelimit.backends.host.cell import HEAD, Newest, half, newest
from awx_ratelimit.backends.host.locks import CUT_SHORT, Stripe
from awx_ratelimit.backends.host.mapped_file import PAGE_BYTES, HostFile
from awx_ratelimit.errors import BackendUnavailable

#: The classes of cells: how many are in a bucket, and of how many bytes.
CLASSES: Final = ((8, 512), (1, 4_096), (1, 32_768), (1, 262_144))
_LEVELS = 20
_ROOT = Struct(f"<{len(CLASSES) * _LEVELS}Q")
_NO_LEVELS = ((),) * len(CLASSES)
_SMALL_CELLS, _SMALL_BYTES = CLASSES[0]
#: The number of the write and the length of the body of each half in a bucket of small cells.
_HEADS = Struct("<" + f"{HEAD.format[1:]}{_SMALL_BYTES // 2 - HEAD.size}x" * (2 * _SMALL_CELLS))


class Cell(NamedTuple):
    """Where a cell lies and what it says."""

    at: int
    cell_bytes: int
    newest: Newest


class Levels:
    """The levels of every stripe in one file."""

    def __init__(self, file: HostFile) -> None:
        self._file = file

    def check(self) -> None:
        """Raise BackendMisconfigured unless every stripe's levels can be read and are there."""
        for stripe in self._file.stripes:
            for number, rooms in enumerate(self._of(stripe)):
                for level, room_at in enumerate(rooms):
                    if room_at + (_bucket_bytes(number) << level) > self._file.file_bytes():
                        raise self._file.damaged(CUT_SHORT)

    def way(self, stripe: Stripe, subject_number: int, number: int) -> list[int]:
        """The buckets of class `number` in which a subject can lie, in their order."""
        size = _bucket_bytes(number)
        rooms = self._of(stripe)[number]
        return [room_at + (subject_number & (1 << level) - 1) * size for level, room_at in enumerate(rooms)]

    def free(self, stripe: Stripe, subject_number: int, number: int) -> Cell:
        """A cell of class `number` on the subject's way that nobody has. Raises BackendUnavailable."""
        cell_bytes = CLASSES[number][1]
        # The last level has the most room.
        for bucket_at in reversed(self.way(stripe, subject_number, number)):
            for at in self._maybe_free(bucket_at, number):
                said = newest(self._file.memory[at : at + cell_bytes])
                if said is not None and not said.body:
                    return Cell(at, cell_bytes, said)
        level = len(self._of(stripe)[number])
        room_at = self._grow(stripe, number, level)
        at = room_at + (subject_number & (1 << level) - 1) * _bucket_bytes(number)
        return Cell(at, cell_bytes, Newest(0, 0, b""))

    def cell(self, stripe: Stripe, turn: int) -> tuple[int, int]:
        """The cell whose turn it is, and its size; each has one in as many turns as there are cells. 0 for none."""
        rooms = self._of(stripe)
        counts = [((1 << len(levels)) - 1) * cells for levels, (cells, _) in zip(rooms, CLASSES, strict=True)]
        index = turn % (sum(counts) or 1)
        for levels, count, (cells, cell_bytes) in zip(rooms, counts, CLASSES, strict=True):
            if index < count:
                level = (index // cells + 1).bit_length() - 1
                return levels[level] + (index - ((1 << level) - 1) * cells) * cell_bytes, cell_bytes
            index -= count
        return 0, 0

    def _maybe_free(self, bucket_at: int, number: int) -> list[int]:
        """The cells of a bucket that are worth a look."""
        if number:
            return [bucket_at]
        heads = iter(_HEADS.unpack_from(self._file.memory, bucket_at))
        halves = enumerate(zip(heads, heads, heads, heads, strict=True))
        return [
            bucket_at + index * _SMALL_BYTES
            for index, (write, body, other_write, other_body) in halves
            if not (body if write >= other_write else other_body)
        ]

    def _of(self, stripe: Stripe) -> tuple[tuple[int, ...], ...]:
        """Where the levels of a stripe begin, class by class."""
        return self._read(stripe)[1]

    def _read(self, stripe: Stripe) -> tuple[Newest, tuple[tuple[int, ...], ...]]:
        at = PAGE_BYTES * (1 + stripe.number)
        page = self._file.memory[at : at + PAGE_BYTES]
        if page != stripe.root_seen:
            said = newest(page)
            if said is None or not said.write or len(said.body) not in (0, _ROOT.size):
                raise self._file.damaged("it is damaged")
            stripe.root = said, _levels(said.body)
            # Another process may have made the file larger.
            self._file.map()
            stripe.root_seen = page
        root: tuple[Newest, tuple[tuple[int, ...], ...]] = stripe.root
        return root

    def _grow(self, stripe: Stripe, number: int, level: int) -> int:
        if level == _LEVELS:
            raise BackendUnavailable(f"{self._file.path}: it has no room for more subjects")
        said, levels = self._read(stripe)
        room_at = self._file.grow(_bucket_bytes(number) << level)
        numbers = [0] * (len(CLASSES) * _LEVELS)
        for index, rooms in enumerate(levels):
            grown = (*rooms, room_at) if index == number else rooms
            numbers[index * _LEVELS : index * _LEVELS + len(grown)] = grown
        root = half(said.write + 1, _ROOT.pack(*numbers))
        # Who is killed before this has made the file larger for nobody.
        at = PAGE_BYTES * (1 + stripe.number) + PAGE_BYTES // 2 - said.at
        self._file.memory[at : at + len(root)] = root
        return room_at


def _bucket_bytes(number: int) -> int:
    cells, cell_bytes = CLASSES[number]
    return cells * cell_bytes


def _levels(body: bytes) -> tuple[tuple[int, ...], ...]:
    if not body:
        return _NO_LEVELS
    numbers = _ROOT.unpack(body)
    classes = (numbers[index * _LEVELS : (index + 1) * _LEVELS] for index in range(len(CLASSES)))
    return tuple(tuple(room_at for room_at in rooms if room_at) for rooms in classes)
