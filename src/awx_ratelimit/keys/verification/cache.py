"""What a verifier remembers: verified keys, digests that are no key, and when each key was last used.

The least recently used entries are evicted first. An entry from the future is not used either: the clock was set back,
so its age is unknown. To record a use, a request only sets one item of a dict; a thread writes them in batches.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.merged_overrides import merged_overrides
from awx_ratelimit.errors import KeyRefused
from awx_ratelimit.keys.storage.schema import KeyRecord
from awx_ratelimit.keys.storage.store import LastUse

_Value = TypeVar("_Value")
#: Later, and earlier, than any clock reads.
_NO_EXPIRY_MS = 1 << 63
_EXPIRED_MS = -(1 << 63)
#: While the store is unavailable, only this many last uses are kept. Some keys then show a slightly earlier last use.
MAX_UNWRITTEN: Final = 100_000


class KnownKey:
    """A cached key, checked on every hit. Compared by identity, because `LastUsedTracker` uses it as a dict key.

    Until before `valid_until_ms` the key is accepted, as `caller`. From then on `caller_at` says what applies.
    """

    __slots__ = ("_accepted_until_ms", "_permanent", "account_id", "caller", "expires_at_ms", "key_id", "never_used",
                 "revoked", "valid_until_ms")  # fmt: skip

    def __init__(self, record: KeyRecord) -> None:
        self.key_id = record.key_id
        self.account_id = record.account_id
        self.revoked = record.revoked
        self.never_used = record.never_used
        self.expires_at_ms = _NO_EXPIRY_MS if record.expires_at_ms is None else record.expires_at_ms
        self._accepted_until_ms = 0 if record.revoked or record.suspended else self.expires_at_ms
        self._permanent = Caller(record.family_id, record.plan, record.account_id, record.overrides)
        self.caller, self.valid_until_ms = self._permanent, self._accepted_until_ms
        if record.temporary_overrides is not None:
            overrides = merged_overrides(record.overrides, record.temporary_overrides)
            self.caller = Caller(record.family_id, record.plan, record.account_id, overrides)
            self.valid_until_ms = min(record.temporary_until_ms, self._accepted_until_ms)

    def caller_at(self, now_ms: int) -> Caller:
        """Return the caller at `now_ms`. Raises KeyRefused for a key that is not accepted then."""
        if now_ms < self.valid_until_ms:
            return self.caller
        if now_ms < self._accepted_until_ms:
            # The temporary override has ended. The caller first: another thread may read both now.
            self.caller = self._permanent
            self.valid_until_ms = self._accepted_until_ms
            return self._permanent
        is_expired = now_ms >= self.expires_at_ms and not self.revoked
        raise KeyRefused("api_key_expired" if is_expired else "api_key_revoked")


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


class LastUsedTracker:
    """Passes the last use of each key to `write`, when `flush` is called."""

    def __init__(self, write: Callable[[Sequence[LastUse]], None]) -> None:
        self._write = write
        self.renew()

    def renew(self) -> None:
        """Reset in a child process: the parent writes what it has recorded."""
        self._lock = threading.Lock()
        #: The time of the last use by key. Requests set items directly, without a lock.
        self.latest: dict[KnownKey, int] = {}
        self._pending: dict[str, LastUse] = {}

    def flush(self) -> None:
        """Write all recorded times. If `write` raises, the times are kept and the error is raised."""
        with self._lock:
            uses = self._pending
            self._pending = {}
            for use in self._take_latest():
                known = uses.get(use.key_id)
                if known is None or known.at_ms < use.at_ms:
                    uses[use.key_id] = use
            if not uses:
                return
            try:
                self._write(sorted(uses.values()))
            except Exception:
                newest = sorted(uses.values(), key=lambda use: use.at_ms)[-MAX_UNWRITTEN:]
                self._pending = {use.key_id: use for use in newest}
                raise

    def __len__(self) -> int:
        return len(self.latest) + len(self._pending)

    def _take_latest(self) -> Iterable[LastUse]:
        latest = self.latest
        while latest:
            # One item at a time: a request may set an item at any moment, and none may be lost.
            key, at_ms = latest.popitem()
            yield LastUse(key.key_id, key.account_id, at_ms)
