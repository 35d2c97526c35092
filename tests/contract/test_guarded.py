"""A guard under the whole contract: it changes nothing while its backend works, and obeys the laws without it."""

import pytest
from tests.selection import steps

from awx_ratelimit import STARTER, AsyncLimiter, BackendUnavailable, Budget, Decision, MemoryBackend, Plan
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.testing import BackendContract, ManualClock
from awx_ratelimit.testing.backend_laws.calendar_periods import CalendarLaws
from awx_ratelimit.testing.backend_laws.joint_claims import JointClaimLaws
from awx_ratelimit.testing.backend_laws.leases_and_refunds import LeaseAndRefundLaws
from awx_ratelimit.testing.backend_laws.rates import RateLaws
from awx_ratelimit.testing.backend_laws.settlements import SettlementLaws


class TestGuardedBackend(BackendContract):
    # The backend's own contract takes more steps.
    exact_steps = steps(1_000, full=12_000)

    def backend(self, clock: ManualClock) -> GuardedBackend:
        return GuardedBackend(MemoryBackend(clock=clock))


class TestAsyncGuardedBackend(BackendContract):
    exact_steps = steps(1_000, full=12_000)

    def backend(self, clock: ManualClock) -> AsyncGuardedBackend:
        return AsyncGuardedBackend(MemoryBackend(clock=clock))


class Gone(MemoryBackend):
    """A backend that never answers."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        raise BackendUnavailable("gone")

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        raise BackendUnavailable("gone")

    def acquire_joint(self, claim: JointClaim) -> Decision:
        raise BackendUnavailable("gone")

    def peek_joint(self, claim: JointClaim) -> Decision:
        raise BackendUnavailable("gone")


@pytest.mark.anyio
class TestGuardInAnOutage(RateLaws, LeaseAndRefundLaws, JointClaimLaws, SettlementLaws, CalendarLaws):
    """The only worker decides without its backend: its shares are the whole limits."""

    exact_steps = steps(2_000, full=24_000)

    def backend(self, clock: ManualClock) -> GuardedBackend:
        guarded = GuardedBackend(Gone())
        guarded._fallback.local.begin(clock)
        return guarded

    async def test_law_13_order_of_usages(self, limiter: AsyncLimiter) -> None:
        """Usages know their scope and subject; the plan of the decision is a share of the claim's."""
        also = [Budget("acme", STARTER, "account")]
        decision = await limiter.acquire("key", STARTER, also=also)

        usages = [(usage.limit, usage.subject) for usage in decision.usages]
        own = [("minute", "key"), ("day", "key"), ("concurrent", "key")]
        assert usages == own + [(f"account.{limit}", "acme") for limit, _ in own]
        assert (decision.subject, decision.plan.name, decision.cost) == ("key", "starter", 1)
        assert decision.plan is not STARTER
