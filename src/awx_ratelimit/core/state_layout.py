"""Which limits a stored state belongs to, and how an idle state is packed.

The state of a subject's rates is flat: a debt and the time it is counted from, for each rate in the order of its
`Layout`. Packed, a million idle subjects are a million `bytes`, which the garbage collector never walks.
"""

import struct
from collections.abc import Sequence
from functools import cache
from itertools import count

from awx_ratelimit.core.rate import Rate

_NUMBERS = count()
_LAYOUTS: dict[int, "Layout"] = {}
_HEAD = struct.Struct("<qI")


class Layout:
    """The rates of a state in their order. Plans of equal rates share one, so that identity tells them apart."""

    __slots__ = ("codec", "number", "rates")

    def __init__(self, rates: tuple[Rate, ...]) -> None:
        self.rates = rates
        self.number = next(_NUMBERS)
        self.codec = _codec(len(rates))
        _LAYOUTS[self.number] = self

    def packed(self, forget_at_ms: int, state: Sequence[int]) -> bytes:
        """`state` with the number of this layout and the time at which it may be forgotten, in bytes."""
        return self.codec.pack(forget_at_ms, self.number, *state)


@cache
def layout_of(rates: tuple[Rate, ...]) -> Layout:
    """The one layout of these rates; it lives as long as the process. There are as many as plans differ in rates."""
    return Layout(rates)


def unpacked(packed: bytes) -> tuple[Layout, list[int]]:
    """The layout and the state in `packed`."""
    layout = _LAYOUTS[_HEAD.unpack_from(packed)[1]]
    _, _, *state = layout.codec.unpack(packed)
    return layout, state


def forget_at_ms(packed: bytes) -> int:
    """When `packed` may be forgotten."""
    at_ms: int = _HEAD.unpack_from(packed)[0]
    return at_ms


@cache
def _codec(rates: int) -> struct.Struct:
    return struct.Struct(f"{_HEAD.format}{2 * rates}q")
