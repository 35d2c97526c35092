"""`LastUsedTracker`: records when each key was last used, and writes the times in batches.

A request only sets one item of a dict. A thread writes the times, sorted by id. Times that cannot be written are kept
for the next attempt, up to a bound.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from awx_ratelimit.keys.storage.store import LastUse

#: While the store is unavailable, only this many times are kept. Some keys then show a slightly earlier last use.
MAX_PENDING: Final = 100_000


class UsedKey(Protocol):
    """A key whose use is recorded."""

    key_id: str
    account_id: str


class LastUsedTracker:
    """Passes the last use of each key to `write`, when `flush` is called."""

    def __init__(self, write: Callable[[Sequence[LastUse]], None]) -> None:
        self._write = write
        self.renew()

    def renew(self) -> None:
        """Reset in a child process: the parent writes what it has recorded."""
        self._lock = threading.Lock()
        #: The time of the last use by key. Requests set items directly, without a lock.
        self.latest: dict[UsedKey, int] = {}
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
                newest = sorted(uses.values(), key=lambda use: use.at_ms)[-MAX_PENDING:]
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
