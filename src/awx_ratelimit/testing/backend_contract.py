"""The laws of every backend, as tests that you inherit.

    class TestMyBackend(BackendContract):
        def backend(self, clock):
            return MyBackend(clock=clock)

The tests are async and cover both kinds of backends. A synchronous backend runs behind `NonBlocking` if it may be
called in an event loop, and in threads if not. The kit needs pytest and anyio's pytest plugin.
"""

import pytest

from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import CALENDAR_3, MINUTE_10, spend
from awx_ratelimit.testing.backend_laws.calendar_periods import CalendarLaws
from awx_ratelimit.testing.backend_laws.joint_claims import JointClaimLaws
from awx_ratelimit.testing.backend_laws.leases_and_refunds import LeaseAndRefundLaws
from awx_ratelimit.testing.backend_laws.malformed_claims import MalformedClaimLaws
from awx_ratelimit.testing.backend_laws.rates import RateLaws
from awx_ratelimit.testing.backend_laws.settlements import SettlementLaws
from awx_ratelimit.testing.backend_laws.waits import WaitLaws


@pytest.mark.anyio
class BackendContract(
    RateLaws, LeaseAndRefundLaws, JointClaimLaws, SettlementLaws, CalendarLaws, WaitLaws, MalformedClaimLaws
):
    """Inherit from this class and define `backend`. Each test states one promise; no test sleeps."""

    async def test_law_7_upgrade(self, limiter: AsyncLimiter) -> None:
        """With 50 of 60 used, an upgrade to 300 leaves 250."""
        await spend(limiter, STARTER, 50)

        assert (await limiter.peek("s", GROWTH)).usages[0].remaining == 250

    async def test_law_7_wait_after_a_downgrade(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A debt above the new burst is cut to it, and the promised wait is exact although refusals store nothing."""
        await spend(limiter, GROWTH, 300)
        clock.advance(500)

        refused = await limiter.acquire("s", STARTER, 60)
        clock.advance(refused.retry_after_ms - 1)
        early = await limiter.acquire("s", STARTER, 60)
        clock.advance(1)

        on_time = await limiter.acquire("s", STARTER, 60)
        assert refused.retry_after_ms == 59_500
        assert early.allowed is False
        assert on_time.allowed is True

    async def test_law_7_limit_of_another_plan(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A limit that the current plan does not have keeps its debt, and the debt keeps draining."""
        await spend(limiter, MINUTE_10, 10)
        for _ in range(3):
            await limiter.acquire("s", CALENDAR_3)
            clock.advance(2_000)

        assert (await limiter.peek("s", MINUTE_10)).usages[0].remaining == 1

    async def test_law_7_debt_in_another_unit(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A debt that the new plan's unit cannot express exactly is rounded up, never down."""
        await spend(limiter, Plan("a", (Rate("x", 1, 1_000, burst=9),)), 1)
        clock.advance(1)

        plan = Plan("b", (Rate("x", 1, 7, burst=9),))
        assert (await limiter.peek("s", plan, 9)).retry_after_ms == 6

    async def test_law_7_fewer_slots_than_leases(self, limiter: AsyncLimiter) -> None:
        """If a plan has fewer slots than open leases, the leases stay and new claims wait for a free slot."""
        three, one = Plan("three", (), Concurrency(3)), Plan("one", (), Concurrency(1))
        held = [await limiter.acquire("s", three) for _ in range(3)]

        answers = []
        for decision in held:
            answers.append((await limiter.peek("s", one)).allowed)
            await limiter.release(decision)

        assert answers == [False] * 3
        assert (await limiter.peek("s", one)).allowed is True

    async def test_law_11_shadow_limit(self, limiter: AsyncLimiter) -> None:
        """An exceeded shadow limit is reported, does not affect the decision, and charges nothing more."""
        plan = Plan(
            "p", (Rate("minute", 2, 60_000, shadow=True), Rate("day", 9, 86_400_000)), Concurrency(1, shadow=True)
        )
        decisions = [await limiter.acquire("s", plan) for _ in range(4)]

        minute, day, slots = decisions[-1].usages
        assert [d.allowed for d in decisions] == [True] * 4
        assert [d.lease is None for d in decisions] == [False, True, True, True]
        assert decisions[-1].retry_after_ms == 0
        assert minute.refused is True
        assert minute.remaining == 0
        assert minute.retry_after_ms == 30_000
        assert day.remaining == 5
        assert slots.refused is True
        assert slots.shadow is True
        assert day.shadow is False

    async def test_law_11_shadow_plan(self, limiter: AsyncLimiter) -> None:
        """In a shadow plan every limit is in shadow mode; a cost above a burst is reported, not raised."""
        plan = Plan.of("p", per_minute=2, concurrent=1, shadow=True)
        decisions = [await limiter.acquire("s", plan, cost) for cost in (1, 5, 1)]

        refused = [tuple(usage.refused for usage in decision.usages) for decision in decisions]
        assert [d.allowed for d in decisions] == [True] * 3
        assert refused == [(False, False), (True, True), (False, True)]

    async def test_law_11_refused_claim(self, limiter: AsyncLimiter) -> None:
        """When an enforced limit refuses, a shadow limit with room is not charged either."""
        plan = Plan("p", (Rate("minute", 5, 60_000, shadow=True), Rate("day", 1, 86_400_000)))

        decisions = [await limiter.acquire("s", plan) for _ in range(3)]
        assert [decision.usages[0].remaining for decision in decisions] == [4, 4, 4]
