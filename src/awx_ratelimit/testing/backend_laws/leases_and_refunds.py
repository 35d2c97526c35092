"""Law 5: slots, leases, and the wait for a slot. Law 12: refunds; and what a reset clears."""

import pytest

from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.rate import Concurrency
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import (
    CALENDAR_3,
    MINUTE_10,
    TWO_RATES,
    BackendUnderTest,
    spend,
)


class LeaseAndRefundLaws(BackendUnderTest):
    """What a backend promises about slots, leases, refunds and resets."""

    async def test_law_5_more_claims_than_slots(self, limiter: AsyncLimiter) -> None:
        """With more claims than slots, as many claims are allowed as there are slots, each with its own lease."""
        decisions = [await limiter.acquire("s", STARTER) for _ in range(8)]

        leases = {d.lease.id for d in decisions if d.lease}
        assert [d.allowed for d in decisions] == [True] * 5 + [False] * 3
        assert len(leases) == 5

    async def test_law_5_release_twice(self, limiter: AsyncLimiter) -> None:
        """A second release of a decision frees nothing more, whenever it happens."""
        first, *_ = [await limiter.acquire("s", STARTER) for _ in range(5)]
        for _ in range(3):
            await limiter.release(first)
        retaken = await limiter.acquire("s", STARTER)
        await limiter.release(first)

        assert retaken.allowed is True
        assert (await limiter.acquire("s", STARTER)).allowed is False

    async def test_law_5_release_without_a_lease(self, limiter: AsyncLimiter) -> None:
        """Releasing a refusal, a peek, or a decision of a plan without slots has no effect."""
        held = [await limiter.acquire("s", TWO_RATES)]

        for decision in (await limiter.acquire("s", TWO_RATES), await limiter.peek("s", TWO_RATES),
                         await limiter.acquire("s", MINUTE_10)):  # fmt: skip
            await limiter.release(decision)

        assert held[0].allowed is True
        assert (await limiter.peek("s", TWO_RATES)).allowed is False

    async def test_law_5_hold_that_raises(self, limiter: AsyncLimiter) -> None:
        """The slot of `hold` is free after its block, even if the block raises."""
        with pytest.raises(ZeroDivisionError):
            async with limiter.hold("s", TWO_RATES) as decision:
                raise ZeroDivisionError

        assert decision.allowed is True
        assert (await limiter.peek("s", TWO_RATES)).usages[-1].remaining == 1

    async def test_law_5_renewed_lease(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A renewed lease keeps its slot for longer than its TTL, until it is released."""
        plan = Plan("p", (), Concurrency(1, ttl_ms=3_000))
        held = await limiter.acquire("s", plan)
        for _ in range(5):
            clock.advance(2_000)
            await limiter.renew_leases()
        meanwhile = await limiter.acquire("s", plan)

        await limiter.release(held)

        assert meanwhile.allowed is False
        assert (await limiter.acquire("s", plan)).allowed is True

    async def test_longest_hold(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A lease ends after `max_hold_ms`, and a release after that frees nothing more."""
        plan = Plan("p", (), Concurrency(1, max_hold_ms=5_000))
        first = await limiter.acquire("s", plan)
        clock.advance(4_999)
        early = await limiter.acquire("s", plan)
        clock.advance(1)
        second = await limiter.acquire("s", plan)
        await limiter.release(first)

        late = await limiter.acquire("s", plan)
        assert early.allowed is False
        assert second.allowed is True
        assert late.allowed is False

    async def test_wait_for_a_slot(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """The wait for a slot is the mean hold time divided by the slots: 1 s at first, 30 s at most."""
        plan = Plan("slots", (), Concurrency(2))
        waits = []
        for hold_ms in (0, 20_000, 600_000):
            held = [await limiter.acquire("s", plan) for _ in range(2)]
            waits.append((await limiter.acquire("s", plan)).retry_after_ms)
            clock.advance(hold_ms)
            for decision in held:
                await limiter.release(decision)
        held = [await limiter.acquire("s", plan) for _ in range(2)]
        waits.append((await limiter.acquire("s", plan)).retry_after_ms)

        assert waits == [1_000, 1_000, 5_000, 30_000]

    async def test_wait_for_a_slot_in_shadow(self, limiter: AsyncLimiter) -> None:
        """The usage of slots in shadow reports the same estimate for a claim that they would have refused."""
        plan = Plan("slots", (), Concurrency(1, shadow=True))
        held = await limiter.acquire("s", plan)

        (usage,) = (await limiter.acquire("s", plan)).usages
        assert held.allowed is True
        assert (usage.refused, usage.retry_after_ms) == (True, 1_000)

    async def test_law_12_refund_after_some_time(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After 2 of 6 tokens have refilled, a refund returns the other 4, once."""
        other = await spend(limiter, MINUTE_10, 3)
        decision = await spend(limiter, MINUTE_10, 6)
        clock.advance(12_000)
        for _ in range(3):
            await limiter.refund(decision)

        remaining = (await limiter.peek("s", MINUTE_10)).usages[0].remaining
        assert other.allowed is True
        assert remaining == 10 - (9 - 2) + 4

    async def test_law_12_refund_after_a_boundary(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
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

    async def test_law_12_nothing_to_refund(self, limiter: AsyncLimiter) -> None:
        """A refusal and a peek refund nothing, and a refund does not free the slot."""
        held = await limiter.acquire("s", TWO_RATES, 2)
        for decision in (await limiter.acquire("s", TWO_RATES), await limiter.peek("s", MINUTE_10)):
            await limiter.refund(decision)
        before = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        await limiter.refund(held)

        after = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        assert before == [0, 8, 0]
        assert after == [2, 10, 0]

    async def test_law_12_refund_after_a_plan_change(self, limiter: AsyncLimiter) -> None:
        """After a plan change, a refund returns the tokens to the limit of the same name."""
        decision = await spend(limiter, STARTER, 50)
        await spend(limiter, GROWTH, 10)
        await limiter.refund(decision)

        assert (await limiter.peek("s", GROWTH)).usages[0].remaining == 290

    async def test_reset(self, limiter: AsyncLimiter) -> None:
        """A reset clears all debts; open leases keep their slots and can still be released."""
        held = await limiter.acquire("s", TWO_RATES, 2)

        await limiter.reset("s")

        after = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        await limiter.release(held)
        assert after == [2, 10, 0]
        assert (await limiter.peek("s", TWO_RATES)).usages[-1].remaining == 1
