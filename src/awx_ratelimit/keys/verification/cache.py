"""`KeyCache`: a bounded memory of look-ups, each believed for a while and no longer.

Forgotten first is what was asked for longest ago. An entry is not believed either when the clock has gone back to
before it was made: then nobody knows its age.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")
#: Longer ago than any clock says.
_NEVER_MS = -(1 << 63)


class KeyCache(Generic[_Value]):
    """At most `most` values by digest, each for `life_ms`. Each verb is safe in any thread."""

    def __init__(self, most: int, life_ms: int) -> None:
        self._most = most
        self._life_ms = life_ms
        self._entries: OrderedDict[bytes, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        """Whether there is an entry, even one that is too old to be believed."""
        return digest in self._entries

    def get(self, digest: bytes, now_ms: int) -> _Value | None:
        """What is remembered of `digest`, None where that is nothing any more."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        value, since_ms = entry
        if not 0 <= now_ms - since_ms < self._life_ms:
            return None
        try:
            self._entries.move_to_end(digest)
        except KeyError:
            # Another thread has just forgotten it: nothing may be said of it any more.
            return None
        return value

    def put(self, digest: bytes, value: _Value, now_ms: int) -> None:
        """Remember `value`, which was true at `now_ms`."""
        self._entries[digest] = (value, now_ms)
        self._entries.move_to_end(digest)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def forget_where(self, outdated: Callable[[_Value], bool]) -> None:
        """Stop believing the entries for which `outdated` is true. `in` still finds them."""
        try:
            entries = list(self._entries.items())
        except RuntimeError:
            # An interpreter whose threads run side by side moved one meanwhile. To forget too much is safe.
            self._entries.clear()
            return
        for digest, (value, _) in entries:
            if outdated(value):
                self._entries[digest] = value, _NEVER_MS

    def forget(self, digest: bytes) -> None:
        """Forget the entry of `digest`, if there is one."""
        self._entries.pop(digest, None)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
