"""`KeyCache`: the bounded cache of verified keys, and of digests that are no key.

The least recently used entries are evicted first. An entry from the future is not used either: the clock was set back,
so its age is unknown.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.keys.storage.rows import KeyRecord

_Value = TypeVar("_Value")
#: Later, and earlier, than any clock reads.
_NO_EXPIRY_MS = 1 << 63
_EXPIRED_MS = -(1 << 63)


class KnownKey:
    """A cached key, checked on every hit. Compared by identity, because `LastUsedTracker` uses it as a dict key."""

    __slots__ = ("accepted_until_ms", "account_id", "caller", "expires_at_ms", "key_id", "never_used", "revoked")

    def __init__(self, record: KeyRecord) -> None:
        self.key_id = record.key_id
        self.account_id = record.account_id
        self.revoked = record.revoked
        self.never_used = record.never_used
        self.expires_at_ms = _NO_EXPIRY_MS if record.expires_at_ms is None else record.expires_at_ms
        self.accepted_until_ms = 0 if record.revoked or record.suspended else self.expires_at_ms
        self.caller = Caller(record.family_id, record.plan, record.account_id, record.overrides)

    def refusal(self, now_ms: int) -> KeyRefused:
        """Return the error of a key that is not accepted at `now_ms`."""
        return KeyRefused("api_key_expired" if now_ms >= self.expires_at_ms and not self.revoked else "api_key_revoked")


class UnknownKey:
    """The result for a digest that is no key."""


class KeyCache(Generic[_Value]):
    """At most `max_entries` values by digest, each for `lifetime_ms`. All methods are thread-safe."""

    def __init__(self, max_entries: int, lifetime_ms: int) -> None:
        self._max_entries = max_entries
        self._lifetime_ms = lifetime_ms
        self._entries: OrderedDict[bytes, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        """Return whether there is an entry, even an expired one."""
        return digest in self._entries

    def get(self, digest: bytes, now_ms: int) -> _Value | None:
        """Return the value of `digest`, or None if there is no current entry."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        value, since_ms = entry
        if not 0 <= now_ms - since_ms < self._lifetime_ms:
            return None
        try:
            self._entries.move_to_end(digest)
        except KeyError:
            # Another thread has just removed the entry, so its value may be outdated.
            return None
        return value

    def put(self, digest: bytes, value: _Value, now_ms: int) -> None:
        """Store `value`, which was read at `now_ms`."""
        self._entries[digest] = (value, now_ms)
        self._entries.move_to_end(digest)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def expire_where(self, outdated: Callable[[_Value], bool]) -> None:
        """Expire the entries for which `outdated` is true. `in` still finds them."""
        try:
            entries = list(self._entries.items())
        except RuntimeError:
            # On an interpreter without a global lock another thread moved an entry. Removing too much is safe.
            self._entries.clear()
            return
        for digest, (value, _) in entries:
            if outdated(value):
                self._entries[digest] = value, _EXPIRED_MS

    def remove(self, digest: bytes) -> None:
        """Remove the entry of `digest`, if there is one."""
        self._entries.pop(digest, None)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
