"""Law 12, refunds; and what a reset clears."""

from awx_ratelimit.core.plan import GROWTH, STARTER
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing.backend_laws.backend_under_test import (
    CALENDAR_3,
    MINUTE_10,
    TWO_RATES,
    BackendUnderTest,
    spend,
)
from awx_ratelimit.testing.clock import ManualClock


class RefundLaws(BackendUnderTest):
    """What a backend promises about refunds and resets."""

    async def test_law_12_a_refund_gives_back_what_time_has_not(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """After 2 of 6 tokens have refilled, a refund returns the other 4, once."""
        other = await spend(limiter, MINUTE_10, 3)
        decision = await spend(limiter, MINUTE_10, 6)
        clock.advance(12_000)
        for _ in range(3):
            await limiter.refund(decision)

        remaining = (await limiter.peek("s", MINUTE_10)).usages[0].remaining
        assert other.allowed is True
        assert remaining == 10 - (9 - 2) + 4

    async def test_law_12_after_a_calendar_boundary_there_is_nothing_to_refund(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """Before a calendar boundary a refund returns the whole cost; after it, a refund returns nothing."""
        before = await spend(limiter, CALENDAR_3, 1)
        after = await spend(limiter, CALENDAR_3, 2)
        await limiter.refund(before)
        left = (await limiter.peek("s", CALENDAR_3)).usages[0].remaining
        clock.advance(86_400_000)
        await spend(limiter, CALENDAR_3, 2)
        await limiter.refund(after)

        assert left == 1
        assert (await limiter.peek("s", CALENDAR_3)).usages[0].remaining == 1

    async def test_law_12_what_charged_nothing_is_worth_nothing(self, limiter: AsyncLimiter) -> None:
        """A refusal and a peek refund nothing, and a refund does not free the slot."""
        held = await limiter.acquire("s", TWO_RATES, 2)
        for decision in (await limiter.acquire("s", TWO_RATES), await limiter.peek("s", MINUTE_10)):
            await limiter.refund(decision)
        before = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        await limiter.refund(held)

        after = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        assert before == [0, 8, 0]
        assert after == [2, 10, 0]

    async def test_law_12_a_refund_is_in_the_units_of_the_plan_as_it_is_now(self, limiter: AsyncLimiter) -> None:
        """After a plan change, a refund returns the tokens to the limit of the same name."""
        decision = await spend(limiter, STARTER, 50)
        await spend(limiter, GROWTH, 10)
        await limiter.refund(decision)

        assert (await limiter.peek("s", GROWTH)).usages[0].remaining == 290

    async def test_reset_clears_debts_and_no_lease(self, limiter: AsyncLimiter) -> None:
        """A reset clears all debts; open leases keep their slots and can still be released."""
        held = await limiter.acquire("s", TWO_RATES, 2)

        await limiter.reset("s")

        after = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        await limiter.release(held)
        assert after == [2, 10, 0]
        assert (await limiter.peek("s", TWO_RATES)).usages[-1].remaining == 1
