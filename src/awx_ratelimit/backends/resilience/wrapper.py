"""The verbs that a wrapper passes on to its backend unchanged."""

from collections.abc import Mapping
from typing import Any

from awx_ratelimit.backends.base import Flushes, KnowsSettled, RenewsLeases
from awx_ratelimit.core.decision import Decision


class AsyncWrapper:
    """Wraps `backend`, for the tasks of event loops. Passes on what a subclass does not change."""

    backend: Any

    def release(self, decision: Decision) -> None:
        self.backend.release(decision)

    def can_settle(self, decision: Decision) -> bool:
        """See KnowsSettled. True if the backend does not know."""
        return not isinstance(self.backend, KnowsSettled) or self.backend.can_settle(decision)

    async def renew_leases(self) -> None:
        """Renew the leases of the backend, if they lapse. Raises BackendUnavailable."""
        if isinstance(self.backend, RenewsLeases):
            await self.backend.renew_leases()

    async def flush(self) -> None:
        """Send what is pending in the backend, if anything can be. Never raises."""
        if isinstance(self.backend, Flushes):
            await self.backend.flush()

    async def health(self) -> Mapping[str, Any]:
        health: Mapping[str, Any] = await self.backend.health()
        return health

    async def close(self) -> None:
        await self.backend.close()
