"""Cells: storage for one record each, safe against a crash at any instruction.

A cell has two halves. Each write goes to the half that is not the newest: the whole record, with a checksum at its end.
A reader takes the newest half whose checksum is right, so an interrupted write leaves the previous record in place.
The first write goes to the second half. A cell whose first half is all zeros was therefore never written. A half with
an empty body marks the cell as free. After its checksum a half can have rows, whose checksum is in the body.
"""

from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

#: The number of the write (from 1), and the length of the body in bytes.
HEAD = Struct("<QI")
CHECKSUM_BYTES = 4
OVERHEAD_BYTES = HEAD.size + CHECKSUM_BYTES
_MAX_COMPARED_BYTES = 4_096


class Half(NamedTuple):
    """One valid half: its offset in the cell, the number of the write that made it, and its body."""

    offset: int
    write_number: int
    body: bytes


#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__
NEVER_WRITTEN = Half(0, 0, b"")


def checksum(content: bytes) -> bytes:
    """The bytes that end a half that begins with `content`."""
    return crc32(content).to_bytes(CHECKSUM_BYTES, "little")


def encode_half(write_number: int, body: bytes) -> bytes:
    """The bytes of a half with this body."""
    content = HEAD.pack(write_number, len(body)) + body
    return content + checksum(content)


def write_half(
    memory: Any, cell_at: int, cell_bytes: int, newest_offset: int, content: bytes, rows: bytes | bytearray = b""
) -> int:
    """Write `content`, and `rows` after it, into the half that is not at `newest_offset`. Returns the half's offset."""
    offset = cell_bytes // 2 - newest_offset
    at = cell_at + offset
    end = at + len(content)
    # First, so that the content is never valid without them.
    memory[end : end + len(rows)] = rows
    memory[at:end] = content
    return offset


def cell_identity(memory: Any, at: int, cell_bytes: int) -> bytes:
    """What differs after each write: the content of a cell, or of a large one the heads of both halves."""
    if cell_bytes <= _MAX_COMPARED_BYTES:
        return memory[at : at + cell_bytes]  # type: ignore[no-any-return]
    second_at = at + cell_bytes // 2
    return memory[at : at + HEAD.size] + memory[second_at : second_at + HEAD.size]  # type: ignore[no-any-return]


def newest_half(cell: bytes) -> Half | None:
    """The newest valid half of `cell`, or None if the cell was written and no half is valid: it is damaged."""
    middle = len(cell) // 2
    first_write, first_bytes = HEAD.unpack_from(cell, 0)
    second_write, second_bytes = HEAD.unpack_from(cell, middle)
    first, second = (0, first_write, first_bytes), (middle, second_write, second_bytes)
    for offset, write_number, body_bytes in (first, second) if first_write >= second_write else (second, first):
        end = offset + HEAD.size + body_bytes
        if write_number and body_bytes + OVERHEAD_BYTES <= middle:
            # `checksum`, inlined: every decision comes through here.
            expected = crc32(cell[offset:end]).to_bytes(CHECKSUM_BYTES, "little")
            if cell[end : end + CHECKSUM_BYTES] == expected:
                return _new(Half, (offset, write_number, cell[offset + HEAD.size : end]))
    return None if any(cell[:middle]) else NEVER_WRITTEN
