"""Bounded reads of header values: the work for one header does not grow with what a client sends.

Everything in this library that parses a header reads it through one of these three functions.
"""

from collections.abc import Sequence
from typing import Final

#: The longest value that is parsed. Longer ones are refused, or cut where a cut cannot help the client.
MAX_BYTES: Final = 1_024
_MAX_LINES: Final = 32


def only_value(lines: Sequence[bytes]) -> bytes | None:
    """The value of a header that was sent once with at most MAX_BYTES; None for any other number or length."""
    return lines[0] if len(lines) == 1 and len(lines[0]) <= MAX_BYTES else None


def first_bytes(lines: Sequence[bytes]) -> tuple[bytes, bool]:
    """The first MAX_BYTES of the list that all `lines` form, and whether anything was cut off."""
    text = b",".join([line[: MAX_BYTES + 1] for line in lines[:_MAX_LINES]])
    return text[:MAX_BYTES], len(text) > MAX_BYTES or len(lines) > _MAX_LINES


def last_items(lines: Sequence[bytes]) -> bytes:
    """The last items of the list that all `lines` form, at most MAX_BYTES of them: an item is whole, or left out."""
    text = b",".join([line[-MAX_BYTES - 1 :] for line in lines[-_MAX_LINES:]])
    # A part of an item could read as another item: the end of an address is an address.
    return text if len(text) <= MAX_BYTES else text[-MAX_BYTES:].partition(b",")[2]
