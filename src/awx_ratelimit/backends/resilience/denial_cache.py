"""A cache of denials around a backend: a flood of refused claims is answered without a call.

It relaxes this: for up to a second after a refusal, this process does not see what another process gives back to the
subject by a reset, a refund or another plan of the same caller.
"""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from awx_ratelimit.backends.base import AsyncBackend, Backend, Flushes, RenewsLeases
from awx_ratelimit.backends.resilience.denials import Refusals
from awx_ratelimit.backends.validation import checked_async_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan


class AsyncDenialCacheBackend:
    """Caches up to 10,000 refusals of `backend`, for the tasks of event loops."""

    checks_claims: ClassVar[bool] = True

    def __init__(self, backend: AsyncBackend | Backend) -> None:
        self.backend = checked_async_backend(backend, "AsyncDenialCacheBackend")
        self._refusals = Refusals(time.monotonic_ns)

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        standing = self._refusals.standing(subject, plan, cost)
        if standing is not None:
            return standing
        sent_ns = self._refusals.now_ns()
        decision = await self.backend.acquire(subject, plan, cost)
        self._refusals.remember(decision, sent_ns)
        return decision

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend. Always asks the backend."""
        return await self.backend.peek(subject, plan, cost)

    def release(self, decision: Decision) -> None:
        """See Backend."""
        self.backend.release(decision)

    async def refund(self, decision: Decision) -> None:
        """See Backend."""
        self._refusals.forget(decision.subject)
        await self.backend.refund(decision)
        self._refusals.forget(decision.subject)

    async def reset(self, subject: str) -> None:
        """See Backend."""
        subject = checked_subject(subject)
        self._refusals.forget(subject)
        await self.backend.reset(subject)
        self._refusals.forget(subject)

    async def renew_leases(self) -> None:
        """Renew the leases of the backend, where they lapse. Raises BackendUnavailable."""
        if isinstance(self.backend, RenewsLeases):
            await self.backend.renew_leases()

    async def flush(self) -> None:
        """Send what waits in the backend, where something does. It raises nothing."""
        if isinstance(self.backend, Flushes):
            await self.backend.flush()

    async def health(self) -> Mapping[str, Any]:
        """See Backend."""
        return await self.backend.health()

    async def close(self) -> None:
        """See Backend."""
        await self.backend.close()
