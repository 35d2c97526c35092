"""Law 5: slots, leases, and the wait for a slot."""

import pytest

from awx_ratelimit.core.plan import STARTER, Plan
from awx_ratelimit.core.rate import Concurrency
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing.backend_laws.backend_under_test import MINUTE_10, TWO_RATES, BackendUnderTest
from awx_ratelimit.testing.clock import ManualClock


class LeaseLaws(BackendUnderTest):
    """What a backend promises about slots and leases."""

    async def test_law_5_live_leases_never_exceed_the_slots(self, limiter: AsyncLimiter) -> None:
        """With more claims than slots, as many claims are allowed as there are slots, each with its own lease."""
        decisions = [await limiter.acquire("s", STARTER) for _ in range(8)]

        leases = {d.lease.id for d in decisions if d.lease}
        assert [d.allowed for d in decisions] == [True] * 5 + [False] * 3
        assert len(leases) == 5

    async def test_law_5_releasing_twice_gives_one_slot_back(self, limiter: AsyncLimiter) -> None:
        """A second release of a decision frees nothing more, whenever it happens."""
        first, *_ = [await limiter.acquire("s", STARTER) for _ in range(5)]
        for _ in range(3):
            await limiter.release(first)
        retaken = await limiter.acquire("s", STARTER)
        await limiter.release(first)

        assert retaken.allowed is True
        assert (await limiter.acquire("s", STARTER)).allowed is False

    async def test_law_5_releasing_a_decision_without_a_lease_does_nothing(self, limiter: AsyncLimiter) -> None:
        """Releasing a refusal, a peek, or a decision of a plan without slots has no effect."""
        held = [await limiter.acquire("s", TWO_RATES)]

        for decision in (await limiter.acquire("s", TWO_RATES), await limiter.peek("s", TWO_RATES),
                         await limiter.acquire("s", MINUTE_10)):  # fmt: skip
            await limiter.release(decision)

        assert held[0].allowed is True
        assert (await limiter.peek("s", TWO_RATES)).allowed is False

    async def test_law_5_hold_gives_the_slot_back_when_its_block_raises(self, limiter: AsyncLimiter) -> None:
        """The slot of `hold` is free after its block, even if the block raises."""
        with pytest.raises(ZeroDivisionError):
            async with limiter.hold("s", TWO_RATES) as decision:
                raise ZeroDivisionError

        assert decision.allowed is True
        assert (await limiter.peek("s", TWO_RATES)).usages[-1].remaining == 1

    async def test_law_5_a_lease_that_is_renewed_outlives_its_ttl(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
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

    async def test_a_lease_ends_after_its_longest_hold(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
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

    async def test_slots_are_worth_waiting_for_as_long_as_leases_last(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
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
