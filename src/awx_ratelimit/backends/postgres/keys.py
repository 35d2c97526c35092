"""The keys of records, and the records of a call in the order in which every call locks them."""

from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

from awx_ratelimit.core.budget import Record, ScopedSubject, subject_of

#: The digest of a subject, and a scope.
Place: TypeAlias = tuple[bytes, str]
_SUBJECTS_CACHED = 8_192
_LONGEST_CACHED = 256


class Keys:
    """A subject is stored as a digest: short for any subject, and of any characters."""

    def __init__(self) -> None:
        self._cached = lru_cache(_SUBJECTS_CACHED)(_digest)

    def digest(self, subject: str) -> bytes:
        """The key of a subject."""
        return self._cached(subject) if len(subject) <= _LONGEST_CACHED else _digest(subject)

    @staticmethod
    def scope(record: Record) -> str:
        """The scope of a record; empty without one."""
        return record.scope if isinstance(record, ScopedSubject) else ""

    def order(self, record: Record) -> Place:
        """Sorts records in the order of their locks."""
        if record.__class__ is str:
            return self.digest(record), ""
        return self.digest(subject_of(record)), self.scope(record)


class Records:
    """The records of a call, each once: add them all, then sort them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._wanted: dict[Record, bool] = {}
        self._numbers: dict[Record, int] = {}
        self.subjects: list[bytes] = []
        self.scopes: list[str] = []
        self.wanted: list[bool] = []

    def add(self, record: Record, *, wanted: bool) -> None:
        """Add a record. `wanted`: if it does not exist yet, it may be needed."""
        if wanted or record not in self._wanted:
            self._wanted[record] = wanted

    def sort(self) -> None:
        """All records were added."""
        places = sorted((*self._keys.order(record), record) for record in self._wanted)
        self._numbers = {record: number for number, (_, _, record) in enumerate(places, 1)}
        self.subjects = [subject for subject, _, _ in places]
        self.scopes = [scope for _, scope, _ in places]
        self.wanted = [self._wanted[record] for _, _, record in places]

    def number(self, record: Record) -> int:
        """The number of a record, from 1."""
        return self._numbers[record]


def _digest(subject: str) -> bytes:
    # A subject may contain lone surrogates.
    return blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).digest()
