"""Who is calling: from a request to a `Caller`, None for nobody, or KeyRefused.

A key is read strictly: exactly one header, trimmed of spaces and tabs, 1 to 128 bytes of visible ASCII. A comma is
two headers that a server joined. Whatever else was sent is an invalid key, never nobody.
"""

import re
from collections.abc import Mapping
from hashlib import blake2s

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.table import PlanTable
from awx_ratelimit.errors import InvalidLimit, KeyRefused
from awx_ratelimit.web.header_values import MAX_BYTES
from awx_ratelimit.web.message import Request
from awx_ratelimit.web.render import KEY_HEADER

_MOST_BYTES = 128
_is_key = re.compile(rb"[!-+\--~]{1,%d}" % _MOST_BYTES).fullmatch


def sent_key(request: Request) -> bytes | None:
    """The API key of the request, None where there is no header. Raises KeyRefused for what no key can be.

    Whether it has the letters of a key is not asked: the look-up of its digest finds no other.
    """
    _, _, _, values_of, _ = request
    values = values_of(KEY_HEADER)
    if len(values) == 1 and len(values[0]) <= MAX_BYTES:
        key = values[0].strip(b" \t")
        if 0 < len(key) <= _MOST_BYTES:
            return key
    elif not values:
        return None
    raise KeyRefused


def sends_key(request: Request) -> bool:
    """Whether the request has something in the place of a key."""
    return bool(request.values(KEY_HEADER))


class StaticKeys:
    """Keys that are known beforehand, each with the name of its plan or a Caller of its own.

    The subject of a key is made from its digest, so that no key is written where subjects go; the text of the keys
    is not kept. Raises InvalidLimit for a text that cannot be sent as a key.
    """

    def __init__(self, keys: Mapping[str, str | Caller]) -> None:
        self._callers: dict[bytes, Caller] = {}
        for number, (key, who) in enumerate(keys.items(), start=1):
            text = key.encode("utf-8", "surrogatepass")
            if not _is_key(text):
                raise InvalidLimit(
                    f"StaticKeys: key {number} cannot be sent; "
                    "allowed are 1 to 128 visible ASCII characters but the comma"
                )
            digest = blake2s(text).digest()
            self._callers[digest] = who if isinstance(who, Caller) else Caller(f"key_{digest.hex()[:32]}", who)

    def __call__(self, request: Request) -> Caller | None:
        """The caller of the key that was sent; None without one. Raises KeyRefused for any other key."""
        key = sent_key(request)
        if key is None:
            return None
        caller = self._callers.get(blake2s(key).digest())
        if caller is None:
            raise KeyRefused
        return caller

    def check(self, plans: PlanTable) -> None:
        """Raise InvalidLimit for a caller whose plan is not in the table: a gate asks once, when it is made."""
        for caller in self._callers.values():
            plans.resolve(caller)
