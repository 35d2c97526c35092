"""A cache of denials around a backend: a flood of refused claims is answered without a call.

Generated from `denial_cache.py` by tools/generate_sync.py: change that module and run the program again.
"""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from awx_ratelimit.backends.base import Backend, Flushes, RenewsLeases
from awx_ratelimit.backends.resilience.denials import Refusals
from awx_ratelimit.backends.validation import checked_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan


class DenialCacheBackend:
    """Caches up to 10,000 refusals of `backend`, for threads."""

    checks_claims: ClassVar[bool] = True

    def __init__(self, backend: Backend) -> None:
        self.backend = checked_backend(backend, "DenialCacheBackend")
        self._refusals = Refusals(time.monotonic_ns)

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        subject, plan, cost = checked_claim(subject, plan, cost)
        standing = self._refusals.standing(subject, plan, cost)
        if standing is not None:
            return standing
        sent_ns = self._refusals.now_ns()
        decision = self.backend.acquire(subject, plan, cost)
        self._refusals.remember(decision, sent_ns)
        return decision

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend. Always asks the backend."""
        return self.backend.peek(subject, plan, cost)

    def release(self, decision: Decision) -> None:
        """See Backend."""
        self.backend.release(decision)

    def refund(self, decision: Decision) -> None:
        """See Backend."""
        self._refusals.forget(decision.subject)
        self.backend.refund(decision)
        self._refusals.forget(decision.subject)

    def reset(self, subject: str) -> None:
        """See Backend."""
        subject = checked_subject(subject)
        self._refusals.forget(subject)
        self.backend.reset(subject)
        self._refusals.forget(subject)

    def renew_leases(self) -> None:
        """Renew the leases of the backend, where they lapse. Raises BackendUnavailable."""
        if isinstance(self.backend, RenewsLeases):
            self.backend.renew_leases()

    def flush(self) -> None:
        """Send what waits in the backend, where something does. It raises nothing."""
        if isinstance(self.backend, Flushes):
            self.backend.flush()

    def health(self) -> Mapping[str, Any]:
        """See Backend."""
        return self.backend.health()

    def close(self) -> None:
        """See Backend."""
        self.backend.close()
