"""A cache of denials around a backend: it answers a flood of refused claims without a call.

Generated from `denial_cache.py` by tools/generate_sync.py: change that module and run the program again.
"""

import time
from collections.abc import Callable
from typing import ClassVar

from awx_ratelimit.backends.base import Backend, SettlesSoon
from awx_ratelimit.backends.resilience.denial_cache import DenialCache
from awx_ratelimit.backends.resilience.wrapper_sync import Wrapper
from awx_ratelimit.backends.validation import checked_backend
from awx_ratelimit.core.claim import checked_claim, checked_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost
from awx_ratelimit.errors import BackendUnavailable


class DenialCacheBackend(Wrapper):
    """Caches up to 10,000 denials of `backend`, for threads.

    A denial answers only claims of the same plan and at least the same cost. A denial of several budgets answers only
    claims of exactly these budgets at the same cost.
    """

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

    def acquire_joint(self, claim: JointClaim) -> Decision:
        denial = self._denials.get_joint(claim)
        if denial is not None:
            return denial
        sent_ns = self._denials.now_ns()
        decision: Decision = self.backend.acquire_joint(claim)
        self._denials.update(decision, sent_ns)
        return decision

    def peek_joint(self, claim: JointClaim) -> Decision:
        """See Backend. Always asks the backend."""
        decision: Decision = self.backend.peek_joint(claim)
        return decision

    def refund(self, decision: Decision) -> bool:
        return self.settle(decision, NOTHING)

    def settle(self, decision: Decision, actual: ActualCost) -> bool:
        self._denials.remove_charged(decision)
        is_first: bool = self.backend.settle(decision, actual)
        self._denials.remove_charged(decision)
        return is_first

    def settle_soon(
        self, decision: Decision, actual: ActualCost, failed: Callable[[BackendUnavailable], None]
    ) -> bool | None:
        """See SettlesSoon."""
        self._denials.remove_charged(decision)
        return self.backend.settle_soon(decision, actual, failed) if isinstance(self.backend, SettlesSoon) else None

    def reset(self, subject: str, scope: str | None = None) -> bool:
        subject = checked_subject(subject)
        self._denials.remove_subject(subject)
        found: bool = self.backend.reset(subject, scope)
        self._denials.remove_subject(subject)
        return found
