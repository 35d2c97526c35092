"""`OpenRow`: one open declared claim as a row of bytes.

A row has the id of the claim, the time of its charge, for each limit the lowest debt, and for each limit whether the
claim was charged by it. Its size is a multiple of 8 bytes.
"""

from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import NamedTuple

NUMBER_BYTES = 8
ID_BYTES = 16
#: The index of the first lowest debt among the numbers of a row.
LOWS_AT = ID_BYTES // NUMBER_BYTES + 1
#: Larger than every debt.
UNKNOWN = 2**63 - 1


class OpenRow(NamedTuple):
    """A declared claim. `limits` are those that it was charged by. `lows` are the lowest debts until the next claim."""

    id: int
    charged_at_ms: int
    limits: set[str]
    lows: dict[str, int]


def packed_row(claim: OpenRow, names: Sequence[str]) -> bytes:
    """The row of a claim, with numbers for the limits of these names."""
    return row_struct(len(names)).pack(
        claim.id.to_bytes(ID_BYTES, "little"),
        claim.charged_at_ms,
        *[claim.lows.get(name, UNKNOWN) for name in names],
        *[name in claim.limits for name in names],
    )


def unpacked_row(names: Sequence[str], rows: bytes | bytearray, at: int) -> OpenRow:
    """The claim whose row begins at `at`. Raises struct.error if there are too few bytes."""
    claim_id, charged_at_ms, *numbers = row_struct(len(names)).unpack_from(rows, at)
    lows = {name: low for name, low in zip(names, numbers, strict=False) if low != UNKNOWN}
    flags = zip(names, numbers[len(names) :], strict=True)
    limits = {name for name, charged in flags if charged}
    return OpenRow(int.from_bytes(claim_id, "little"), charged_at_ms, limits, lows)


@cache
def row_struct(limits: int) -> Struct:
    """The format of a row with numbers for so many limits."""
    return Struct(f"<{ID_BYTES}sq{limits}q{limits}?{-limits % NUMBER_BYTES}x")
