"""A cache of denials around a backend: it answers a flood of refused claims without a call.

Generated from `denial_cache.py` by tools/generate_sync.py: change that module and run the program again.
"""

import time
from typing import ClassVar

from awx_ratelimit.backends.base import Backend
from awx_ratelimit.backends.resilience.denial_cache import DenialCache
from awx_ratelimit.backends.resilience.wrapper_sync import Wrapper
from awx_ratelimit.backends.validation import checked_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan


class DenialCacheBackend(Wrapper):
    """Caches up to 10,000 denials of `backend`, for threads."""

    checks_claims: ClassVar[bool] = True

    def __init__(self, backend: Backend) -> None:
        self.backend = checked_backend(backend, "DenialCacheBackend")
        self._denials = DenialCache(time.monotonic_ns)

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        subject, plan, cost = checked_claim(subject, plan, cost)
        denial = self._denials.get(subject, plan, cost)
        if denial is not None:
            return denial
        sent_ns = self._denials.now_ns()
        decision: Decision = self.backend.acquire(subject, plan, cost)
        self._denials.update(decision, sent_ns)
        return decision

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend. Always asks the backend."""
        decision: Decision = self.backend.peek(subject, plan, cost)
        return decision

    def refund(self, decision: Decision) -> None:
        self._denials.remove(decision.subject)
        self.backend.refund(decision)
        self._denials.remove(decision.subject)

    def reset(self, subject: str) -> None:
        subject = checked_subject(subject)
        self._denials.remove(subject)
        self.backend.reset(subject)
        self._denials.remove(subject)
