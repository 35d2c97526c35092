"""Where warnings wait for their delivery: in the key store, or in the memory of this process."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from awx_ratelimit.keys.warnings.warning import DueWarning, Owner, QuotaWarning
from awx_ratelimit.observability.quota_crossings import QuotaUse

if TYPE_CHECKING:
    from awx_ratelimit.keys.storage.store import KeyStore

#: Longer than a delivery takes.
_LEASE_MS: Final = 60_000
_REMOVE_INTERVAL_MS: Final = 3_600_000
_MAX_WAITING: Final = 10_000


class Outbox(Protocol):
    """Keeps warnings until they are delivered. The calls raise KeyStoreUnavailable."""

    def add(self, uses: Sequence[QuotaUse], channels: Sequence[str], now_ms: int) -> None:
        """Add a warning of each use that needs one, for each channel."""

    def take(self, channels: Sequence[str], now_ms: int) -> DueWarning | None:
        """Return a warning that is due. For a minute, nobody else gets it."""

    def postpone(self, warning: DueWarning, next_at_ms: int) -> None:
        """The warning is due at `next_at_ms`."""

    def remove(self, warning: DueWarning) -> None:
        """The warning was delivered or given up."""

    def pending(self, channels: Sequence[str]) -> int:
        """Return how many warnings wait."""


class StoredOutbox:
    """In a key store: each warning exists once, whatever process has seen its reason, and any process delivers it."""

    def __init__(self, store: "KeyStore") -> None:
        # Here, because an outbox in memory does not need SQLAlchemy.
        from awx_ratelimit.keys.storage import warnings

        self._store = store
        self._statements = warnings
        self._removed_at_ms: int | None = None

    def add(self, uses: Sequence[QuotaUse], channels: Sequence[str], now_ms: int) -> None:
        self._store.write(self._statements.add, uses, channels, now_ms)

    def take(self, channels: Sequence[str], now_ms: int) -> DueWarning | None:
        if self._removed_at_ms is None or now_ms - self._removed_at_ms >= _REMOVE_INTERVAL_MS:
            self._store.write(self._statements.remove_old, now_ms)
            self._removed_at_ms = now_ms
        if not self._store.query(self._statements.is_due, channels, now_ms):
            return None
        return self._store.write(self._statements.take, channels, now_ms, _LEASE_MS)

    def postpone(self, warning: DueWarning, next_at_ms: int) -> None:
        self._store.write(self._statements.postpone, warning, next_at_ms)

    def remove(self, warning: DueWarning) -> None:
        self._store.write(self._statements.remove, warning)

    def pending(self, channels: Sequence[str]) -> int:
        return self._store.query(self._statements.pending, channels)


class MemoryOutbox:
    """In this process, which loses it when it ends. At most 10,000 warnings wait; then the oldest are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], tuple[DueWarning, int]] = {}

    def add(self, uses: Sequence[QuotaUse], channels: Sequence[str], now_ms: int) -> None:
        with self._lock:
            for use in uses:
                warning = QuotaWarning.of(use, Owner(None, None))
                for channel in channels:
                    due = DueWarning(warning.id, channel, warning.to_json(), now_ms, 0)
                    self._waiting[warning.id, channel] = due, now_ms
            while len(self._waiting) > _MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]

    def take(self, channels: Sequence[str], now_ms: int) -> DueWarning | None:
        with self._lock:
            for key, (warning, next_at_ms) in self._waiting.items():
                if next_at_ms <= now_ms and warning.channel in channels:
                    taken = warning._replace(attempts=warning.attempts + 1)
                    self._waiting[key] = taken, now_ms + _LEASE_MS
                    return taken
        return None

    def postpone(self, warning: DueWarning, next_at_ms: int) -> None:
        with self._lock:
            self._waiting[warning.id, warning.channel] = warning, next_at_ms

    def remove(self, warning: DueWarning) -> None:
        with self._lock:
            self._waiting.pop((warning.id, warning.channel), None)

    def pending(self, channels: Sequence[str]) -> int:
        return sum(1 for _, channel in tuple(self._waiting) if channel in channels)
