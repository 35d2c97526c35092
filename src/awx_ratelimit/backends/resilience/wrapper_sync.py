"""The verbs that a wrapper passes on to its backend unchanged.

Generated from `wrapper.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Mapping
from typing import Any

from awx_ratelimit.backends.base import Flushes, KnowsSettled, RenewsLeases
from awx_ratelimit.core.decision import Decision


class Wrapper:
    """Wraps `backend`, for threads. Passes on what a subclass does not change."""

    backend: Any

    def release(self, decision: Decision) -> None:
        self.backend.release(decision)

    def can_settle(self, decision: Decision) -> bool:
        """See KnowsSettled. True if the backend does not know."""
        return not isinstance(self.backend, KnowsSettled) or self.backend.can_settle(decision)

    def renew_leases(self) -> None:
        """Renew the leases of the backend, if they lapse. Raises BackendUnavailable."""
        if isinstance(self.backend, RenewsLeases):
            self.backend.renew_leases()

    def flush(self) -> None:
        """Send what is pending in the backend, if anything can be. Never raises."""
        if isinstance(self.backend, Flushes):
            self.backend.flush()

    def health(self) -> Mapping[str, Any]:
        health: Mapping[str, Any] = self.backend.health()
        return health

    def close(self) -> None:
        self.backend.close()
