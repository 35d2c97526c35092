"""`LastUsedTracker`: when each key was used last, gathered in memory and written in batches.

A request sets one item of a dict, and that is all it has to do with it: writing is a thread's, in the order of the
ids, and what cannot be written is kept for the next time, up to a bound.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from awx_ratelimit.keys.storage.store import LastUse

#: More is not kept while the store cannot be written: then some keys look as if they were used a little earlier.
MAX_PENDING: Final = 100_000


class UsedKey(Protocol):
    """What can be used: a key as verification knows it."""

    key_id: str
    account_id: str


class LastUsedTracker:
    """Hands the last use of each key to `write`."""

    def __init__(self, write: Callable[[Sequence[LastUse]], None]) -> None:
        self._write = write
        self.renew()

    def renew(self) -> None:
        """In a child process: what the parent has gathered is the parent's to write."""
        self._lock = threading.Lock()
        #: What was used, with the time: set an item, and be done.
        self.latest: dict[UsedKey, int] = {}
        self._kept: dict[str, LastUse] = {}

    def flush(self) -> None:
        """Write what was gathered. Raises KeyStoreUnavailable where that fails; it is kept then."""
        with self._lock:
            uses = self._kept
            self._kept = {}
            for use in self._gathered():
                known = uses.get(use.key_id)
                if known is None or known.at_ms < use.at_ms:
                    uses[use.key_id] = use
            if not uses:
                return
            try:
                self._write(sorted(uses.values()))
            except Exception:
                newest = sorted(uses.values(), key=lambda use: use.at_ms)[-MAX_PENDING:]
                self._kept = {use.key_id: use for use in newest}
                raise

    def __len__(self) -> int:
        return len(self.latest) + len(self._kept)

    def _gathered(self) -> Iterable[LastUse]:
        latest = self.latest
        while latest:
            # One by one: a request may set an item at any moment, and none may be lost.
            used, at_ms = latest.popitem()
            yield LastUse(used.key_id, used.account_id, at_ms)
