"""Arrays in the binary format of PostgreSQL: a header, and each element with its length before it.

Text would cost the server and this process more: a call has hundreds of numbers.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from struct import Struct

_HEADER = Struct("!iiiii")
_EMPTY = Struct("!iii")
_LENGTH = Struct("!i")
_BOOLEAN, _BYTEA, _BIGINT, _TEXT = 16, 17, 20, 25
#: The format of all parameters and replies.
BINARY = 1
#: The types of the arrays, as parameters.
BOOLEANS, BYTEAS, BIGINTS, TEXTS = 1000, 1001, 1016, 1009
#: The types of single parameters.
BOOLEAN, BYTEA, BIGINT, TEXT = _BOOLEAN, _BYTEA, _BIGINT, _TEXT
_NUMBER = Struct("!q")
#: Arrays are packed in parts of this length. Clients may choose how long arrays are, and a Struct takes more than the
#: array: so there is none for each length.
_PART = 256


def bigints(numbers: Sequence[int]) -> bytes:
    """A bigint[] of these numbers."""
    count = len(numbers)
    if not count:
        return _EMPTY.pack(0, 0, _BIGINT)
    elements = [8] * (2 * count)
    elements[1::2] = numbers
    header = _HEADER.pack(1, 0, _BIGINT, count, 1)
    if count <= _PART:
        return header + _packing(count).pack(*elements)
    parts = [header]
    for at in range(0, count, _PART):
        part = elements[2 * at : 2 * (at + _PART)]
        parts.append(_packing(len(part) // 2).pack(*part))
    return b"".join(parts)


def lease_encoder(owner_1: int, owner_2: int) -> Callable[[int], bytes]:
    """A function that encodes a sequence number as the bigint[] of a lease: its owner, and this number."""
    # Once for each claim: only the last element changes.
    prefix, pack = bigints((owner_1, owner_2, 0))[:-8], _NUMBER.pack
    return lambda sequence: prefix + pack(sequence)


def booleans(values: Sequence[bool]) -> bytes:
    """A boolean[] of these values."""
    return _array(_BOOLEAN, [bytes([value]) for value in values])


def byteas(values: Sequence[bytes]) -> bytes:
    """A bytea[] of these values."""
    return _array(_BYTEA, values)


def texts(values: Iterable[str]) -> bytes:
    """A text[] of these texts, which must not contain NUL."""
    return _array(_TEXT, [value.encode() for value in values])


def bigint(number: int | None) -> bytes | None:
    """A bigint, or NULL."""
    return None if number is None else _NUMBER.pack(number)


def boolean(value: bool) -> bytes:
    """A boolean."""
    return bytes([value])


def read_bigints(array: bytes) -> tuple[int, ...]:
    """The numbers of a bigint[] without NULL."""
    count = (len(array) - _HEADER.size) // 12
    if count <= _PART:
        return _unpacking(count).unpack_from(array, _HEADER.size) if count > 0 else ()
    numbers: list[int] = []
    for at in range(0, count, _PART):
        numbers += _unpacking(min(_PART, count - at)).unpack_from(array, _HEADER.size + 12 * at)
    return tuple(numbers)


def _array(element_type: int, values: Sequence[bytes]) -> bytes:
    if not values:
        return _EMPTY.pack(0, 0, element_type)
    parts = [_HEADER.pack(1, 0, element_type, len(values), 1)]
    for value in values:
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


@lru_cache(_PART)
def _packing(count: int) -> Struct:
    return Struct("!" + "iq" * count)


@lru_cache(_PART)
def _unpacking(count: int) -> Struct:
    return Struct("!" + "4xq" * count)
