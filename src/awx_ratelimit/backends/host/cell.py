"""Two halves, one of them valid: how what is written survives a crash at any instruction.

A cell is written into the half that is not the newest, whole and with a checksum at its end. Who reads takes the newest
half whose checksum is right: a write that was cut short anywhere leaves what was there before. The first write goes
into the second half, so a cell whose first half is zeros was never written. One without a body was given up.
"""

from struct import Struct
from typing import NamedTuple
from zlib import crc32

#: The number of the write, from 1, and the length of the body in bytes.
HEAD = Struct("<QI")
CHECK_BYTES = 4
OVERHEAD_BYTES = HEAD.size + CHECK_BYTES


class Newest(NamedTuple):
    """The newest valid half: where in the cell it begins, the number of its write, and what was written."""

    at: int
    write: int
    body: bytes


#: What `Newest(...)` ends in, without the call in between.
_new = tuple.__new__
_NEVER_WRITTEN = Newest(0, 0, b"")


def check(written: bytes) -> bytes:
    """What ends a half that begins with `written`."""
    return crc32(written).to_bytes(CHECK_BYTES, "little")


def half(write: int, body: bytes) -> bytes:
    """A half that says `body`."""
    written = HEAD.pack(write, len(body)) + body
    return written + check(written)


def newest(cell: bytes) -> Newest | None:
    """The newest valid half of `cell`; None where there is none though it was written, so that it is damaged."""
    middle = len(cell) // 2
    write, body_bytes = HEAD.unpack_from(cell, 0)
    other_write, other_bytes = HEAD.unpack_from(cell, middle)
    first, second = (0, write, body_bytes), (middle, other_write, other_bytes)
    for at, number, size in (first, second) if write >= other_write else (second, first):
        end = at + HEAD.size + size
        if number and size + OVERHEAD_BYTES <= middle:
            checked = crc32(cell[at:end]).to_bytes(CHECK_BYTES, "little")
            if cell[end : end + CHECK_BYTES] == checked:
                return _new(Newest, (at, number, cell[at + HEAD.size : end]))
    return None if any(cell[:middle]) else _NEVER_WRITTEN
