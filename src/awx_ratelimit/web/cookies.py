r"""The cookies of a request (RFC 6265), as bytes: no other character than a space or a tab around a name is ignored.

A neighbouring host can set a cookie whose name a browser keeps apart, such as ``\xa0__Host-session``. A parser that
strips more than browsers do, or decodes first, takes it for the one that only this host can set.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

#: Browsers send less, and most servers accept less. What comes after it is not read.
MAX_BYTES = 65_536


def values_of(lines: Sequence[bytes], name: bytes) -> list[bytes]:
    """Every value of the cookie `name` in the ``Cookie`` header lines, in their order and without spaces around them.

    It takes time in proportion to the length, and at most a millisecond or so. A cookie without ``=`` has no name.
    """
    return [value.strip(b" \t") for value in _pattern(name).findall(b";".join(lines)[:MAX_BYTES])]


@lru_cache(maxsize=64)
def _pattern(name: bytes) -> "re.Pattern[bytes]":
    return re.compile(rb"(?<![^;])[ \t]*" + re.escape(name) + rb"[ \t]*=([^;]*)")
