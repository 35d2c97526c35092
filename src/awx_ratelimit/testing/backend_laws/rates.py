"""Laws 1 to 4, 6 and 8 to 10: exact decisions, atomic claims, honest waits, clock steps, isolated subjects."""

import random
from typing import Any

import pytest

from awx_ratelimit.core.plan import STARTER, Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.errors import ImpossibleClaim
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import (
    CALENDAR_3,
    MINUTE_10,
    TWO_RATES,
    BackendUnderTest,
    spend,
)
from awx_ratelimit.testing.backend_laws.rate_bound import rate_bound_excess
from awx_ratelimit.testing.backend_laws.reference_model import Schedule

#: Subjects that would reach another subject's state if a backend built keys or statements from their text.
STRANGE_SUBJECTS = (
    " ", "a", "A", "a:b", "{a}", "{a}b", "a\x00", "\x00a", "\n", "*", "%s", "'; --", "../a",
    "\u00e4", "a\u0308", "\U0001f511", "\ud800", "\udfff", "x" * 10_000, "x" * 9_999 + "y",
)  # fmt: skip


class RateLaws(BackendUnderTest):
    """What a backend promises about rates."""

    @pytest.mark.parametrize("seed", range(8))
    async def test_law_1_equals_the_model(self, limiter: AsyncLimiter, clock: ManualClock, seed: int) -> None:
        """On any schedule of claims, plan changes and clock steps, decisions equal those of the Fraction model."""
        schedule = Schedule(limiter, clock, seed)

        await schedule.play(self.exact_steps // 8)

        assert schedule.refusals > self.exact_steps // 200

    async def test_law_1_plan_without_limits(self, limiter: AsyncLimiter) -> None:
        """Claims under an unlimited plan are allowed, and change nothing of what the subject has left elsewhere."""
        await spend(limiter, TWO_RATES, 2)
        before = await limiter.peek("s", TWO_RATES)
        unlimited = Plan.unlimited("unlimited")

        decisions = [await limiter.acquire("s", unlimited, 1_000) for _ in range(20)]
        await limiter.refund(decisions[0])
        await limiter.release(decisions[0])

        assert all(decision.allowed for decision in decisions)
        assert [decision.usages for decision in decisions] == [()] * 20
        assert (await limiter.peek("s", TWO_RATES)).usages == before.usages

    async def test_law_1_unknown_subject_without_limits(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """An unlimited plan needs no record: a subject that was never limited is allowed, now and later."""
        unlimited = Plan.unlimited("unlimited")

        decisions = [await limiter.acquire("s", unlimited) for _ in range(3)]
        clock.advance(3_600_000)
        decisions += [await limiter.acquire("s", unlimited, cost) for cost in (1, 1_000)]
        for decision in decisions:
            await limiter.release(decision)

        assert [(decision.allowed, decision.usages) for decision in decisions] == [(True, ())] * 5
        assert (await limiter.acquire("s", TWO_RATES)).allowed is True

    async def test_law_2_refused_by_one_rate(self, limiter: AsyncLimiter) -> None:
        """A claim that one rate refuses leaves the other rates and the slots unchanged."""
        await spend(limiter, TWO_RATES, 2)
        before = await limiter.peek("s", TWO_RATES)

        refused = [await limiter.acquire("s", TWO_RATES) for _ in range(50)]

        after = await limiter.peek("s", TWO_RATES)
        assert [d.allowed for d in refused] == [False] * 50
        assert after.usages == before.usages

    async def test_law_2_refused_by_the_slots(self, limiter: AsyncLimiter) -> None:
        """A claim that finds no free slot leaves every rate unchanged."""
        held = await limiter.acquire("s", TWO_RATES)
        before = await limiter.peek("s", TWO_RATES)

        refused = await limiter.acquire("s", TWO_RATES)

        after = await limiter.peek("s", TWO_RATES)
        assert held.allowed is True
        assert refused.allowed is False
        assert refused.lease is None
        assert after.usages == before.usages

    @pytest.mark.parametrize(
        ("plan", "spent", "cost"),
        [
            (MINUTE_10, 10, 1), (MINUTE_10, 10, 10), (MINUTE_10, 7, 5), (CALENDAR_3, 3, 1), (STARTER, 60, 60),
            (Plan("odd", (Rate("x", 7, 60_000),)), 7, 3), (Plan("fast", (Rate("x", 3_000, 1_000, burst=5),)), 5, 5),
            (Plan("both", (Rate("a", 1, 1_000), Rate("b", 1, 60_000))), 1, 1),
        ],
    )  # fmt: skip
    async def test_law_3_exact_wait(
        self, limiter: AsyncLimiter, clock: ManualClock, plan: Plan, spent: int, cost: int
    ) -> None:
        """A claim refused with a wait of w ms is refused again after w - 1 ms and allowed after w ms."""
        await spend(limiter, plan, spent)
        clock.advance(1)
        wait_ms = (await limiter.acquire("s", plan, cost)).retry_after_ms

        clock.advance(wait_ms - 1)
        early = await limiter.acquire("s", plan, cost)
        clock.advance(1)

        on_time = await limiter.acquire("s", plan, cost)
        assert early.allowed is False
        assert early.retry_after_ms == 1
        assert on_time.allowed is True

    async def test_law_4_continuous_rate(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """In any interval the admitted cost is at most burst + tokens * t / period, for any sequence of claims."""
        plan = Plan("odd", (Rate("x", 7, 1_000, burst=5),))
        draw = random.Random(4)
        admitted: list[tuple[int, int]] = []
        for _ in range(1_500):
            clock.advance(draw.choice((0, 0, 1, 13, 140, 700)))
            cost = draw.randint(1, 3)
            if (await limiter.acquire("s", plan, cost)).allowed:
                admitted.append((clock.now_ms(), cost))

        assert rate_bound_excess(admitted, burst=5, tokens=7, period_ms=1_000) <= 0

    async def test_law_4_calendar_rate(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A calendar rate admits its tokens between two boundaries, and all of them again after a boundary."""
        clock.advance(86_400_000 - 1)
        before = [(await limiter.acquire("s", CALENDAR_3)).allowed for _ in range(4)]

        clock.advance(1)

        after = [(await limiter.acquire("s", CALENDAR_3)).allowed for _ in range(4)]
        assert before == [True] * 3 + [False]
        assert after == [True] * 3 + [False]

    async def test_law_8_impossible_claim(self, limiter: AsyncLimiter) -> None:
        """In `acquire` and `peek`, a cost above a burst raises ImpossibleClaim and charges nothing."""
        for verb in (limiter.acquire, limiter.peek):
            with pytest.raises(ImpossibleClaim):
                await verb("s", TWO_RATES, 3)

        assert [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages] == [2, 10, 1]

    @pytest.mark.parametrize("cost", [0, -1, 1.0, 1.5, "1", None, True, float("nan")])
    async def test_invalid_cost(self, limiter: AsyncLimiter, cost: Any) -> None:
        """Any other cost raises ValueError and charges nothing."""
        with pytest.raises(ValueError, match="cost"):
            await limiter.acquire("s", STARTER, cost)

        assert (await limiter.peek("s", STARTER)).usages[0].remaining == 60

    async def test_law_9_idle_subject(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After every rate has refilled and every slot is free, a subject reads like a new one."""
        await spend(limiter, TWO_RATES, 2)

        clock.advance(12_000)

        old, new = [await limiter.peek(subject, TWO_RATES) for subject in ("s", "new")]
        assert old.usages == new.usages

    async def test_law_10_isolated_subjects(self, limiter: AsyncLimiter) -> None:
        """A claim of one subject, whatever its text, charges no other subject."""
        for subject in STRANGE_SUBJECTS:
            assert (await limiter.peek(subject, TWO_RATES)).usages[0].remaining == 2, repr(subject)
            await limiter.acquire(subject, TWO_RATES, 2)

        remaining = [(await limiter.peek(subject, TWO_RATES)).usages[0].remaining for subject in STRANGE_SUBJECTS]
        assert remaining == [0] * len(STRANGE_SUBJECTS)

    async def test_law_6_small_step_back(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After a step back of at most one period, the wait grows by the step and is still exact."""
        await spend(limiter, MINUTE_10, 10)

        clock.advance(-20_000)

        refused = await limiter.acquire("s", MINUTE_10)
        clock.advance(refused.retry_after_ms - 1)
        early = await limiter.acquire("s", MINUTE_10)
        clock.advance(1)
        on_time = await limiter.acquire("s", MINUTE_10)
        assert refused.retry_after_ms == 26_000
        assert early.allowed is False
        assert on_time.allowed is True

    async def test_law_6_large_step_back(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After a step back of more than one period, the wait is the usual one from the first refusal on."""
        await spend(limiter, MINUTE_10, 10)

        clock.advance(-100_000_000)

        refused = await limiter.acquire("s", MINUTE_10)
        clock.advance(refused.retry_after_ms)
        assert refused.retry_after_ms == 6_000
        assert (await limiter.acquire("s", MINUTE_10)).allowed is True

    async def test_law_6_calendar_rate(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After a step back over midnight, tokens that the new day used stay used until that day ends."""
        clock.advance(10)
        await spend(limiter, CALENDAR_3, 3)

        clock.advance(-20)

        refused = await limiter.acquire("s", CALENDAR_3)
        assert refused.allowed is False
        assert refused.retry_after_ms == 86_400_000 + 10
