"""The order of the rates in a stored state, and how an idle state is packed into bytes.

A state is a flat list with a debt and its time for each rate of a `Layout`. The garbage collector does not traverse
`bytes`, so a million packed subjects cost it nothing.
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
    """The rates of a state, in order. Plans with equal rates share one Layout, so compare layouts by identity."""

    __slots__ = ("codec", "number", "rates")

    def __init__(self, rates: tuple[Rate, ...]) -> None:
        self.rates = rates
        self.number = next(_NUMBERS)
        self.codec = _codec(len(rates))
        _LAYOUTS[self.number] = self

    def pack(self, forget_at_ms: int, state: Sequence[int]) -> bytes:
        """`state` as bytes, with the number of this layout and the time after which it can be forgotten."""
        return self.codec.pack(forget_at_ms, self.number, *state)


@cache
def layout_of(rates: tuple[Rate, ...]) -> Layout:
    """The shared Layout of `rates`. Layouts are never freed: there is one for each distinct tuple of rates."""
    return Layout(rates)


def unpack(packed: bytes) -> tuple[Layout, list[int]]:
    """The layout and the state in `packed`."""
    layout = _LAYOUTS[_HEAD.unpack_from(packed)[1]]
    _, _, *state = layout.codec.unpack(packed)
    return layout, state


def forget_at_ms(packed: bytes) -> int:
    """The time after which `packed` can be forgotten."""
    at_ms: int = _HEAD.unpack_from(packed)[0]
    return at_ms


@cache
def _codec(rates: int) -> struct.Struct:
    return struct.Struct(f"{_HEAD.format}{2 * rates}q")
