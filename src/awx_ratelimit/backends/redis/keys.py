"""The keys of records on Redis.

A subject's key has a hash tag, by which a cluster chooses the slot: a digest of the subject. So all records of a
subject share a slot. A subject that begins with ``{name}`` has the tag of the subject ``name``: name your keys
``{acme}key_1`` and a claim of such a key and of the account ``acme`` is one call, on a cluster too.
"""

import re
from binascii import b2a_base64
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from redis.crc import key_slot

from awx_ratelimit.core.budget import Record, subject_of
from awx_ratelimit.core.validation import describe

MAX_PREFIX_BYTES: Final = 64
_RECORDS_CACHED = 16_384
_LONGEST_CACHED = 256
_place = re.compile(r"\{([^{}]+)\}", re.DOTALL).match


class Keys:
    """The keys that begin with `prefix`.

    It has at most 64 bytes, and no braces, which would choose a key's slot on a cluster. Raises TypeError or ValueError
    for a wrong prefix.
    """

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix: expected a string such as 'awx', got {describe(prefix)}")
        if len(prefix.encode()) > MAX_PREFIX_BYTES or "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix: expected at most {MAX_PREFIX_BYTES} bytes without braces, got {prefix!r}")
        self._start = f"{prefix}:{{".encode()
        #: The keys of some records. The hot path reads it without a call.
        self.known: dict[Record, bytes] = {}
        self._cached_slot = lru_cache(_RECORDS_CACHED)(key_slot)

    def key(self, record: Record) -> bytes:
        """The key of `record`: short for any subject."""
        return self.known.get(record) or self._add(record)

    def _add(self, record: Record) -> bytes:
        key = self._new(record)
        if len(subject_of(record)) <= _LONGEST_CACHED:
            if len(self.known) >= _RECORDS_CACHED:
                # One atomic step, unlike evicting single entries.
                self.known.clear()
            self.known[record] = key
        return key

    def index(self, subject: str) -> bytes:
        """The key of the index of the scopes in which `subject` has records. No scope contains a colon."""
        return self.key(subject) + b"::scopes"

    def slot(self, record: Record) -> int:
        """The slot of `record` on a cluster."""
        return self._cached_slot(self.key(record))

    def _new(self, record: Record) -> bytes:
        if not isinstance(record, str):
            return b"%b:%b" % (self.key(record.subject), record.scope.encode())
        place = _place(record)
        if place is None:
            return b"%b%b}" % (self._start, _digest(record))
        return b"%b%b}%b" % (self._start, _digest(place[1]), _digest(record))


def _digest(subject: str) -> bytes:
    # A subject may contain lone surrogates.
    digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return b2a_base64(digest, newline=False)[:22]
