"""Law 15: a claim is settled as if it had cost from the start what it turned out to cost."""

from random import Random
from typing import Any

import pytest

from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import MINUTE_10, BackendUnderTest
from awx_ratelimit.testing.backend_laws.settled_model import SettledBucket

MINUTE_60 = Plan.of("sixty", per_minute=60)
TOKENS = Plan("tokens", (Rate("minute", 10, 60_000), Rate("tokens", 1_000, 60_000, measure="tokens")))
_RATES = (
    Rate("x", 60, 60_000),
    Rate("x", 7, 60_000, burst=20),
    Rate("x", 40, 60_000, refill="calendar"),
    Rate("x", 30, period="week", timezone="America/New_York"),
)
#: Every way to count a limit of 100 tokens. The third counts in a unit that is not its period.
_KINDS = (
    Rate("x", 100, 60_000),
    Rate("x", 50, 86_400_000, burst=100),
    Rate("x", 2**40, 2**20, burst=100 * 2**37),
    Rate("x", 100, 3_600_000, refill="calendar"),
    Rate("x", 100, period="day", timezone="America/New_York"),
    Rate("x", 100, period="month"),
    Rate("x", 100, period="month", anchor_day=15, timezone="Europe/Berlin"),
)


class SettlementLaws(BackendUnderTest):
    """What a backend promises about costs that are settled afterwards."""

    @pytest.mark.parametrize("rate", _RATES, ids=["minute", "burst", "calendar", "week"])
    @pytest.mark.parametrize("seed", range(2))
    async def test_law_15_equals_the_model(
        self, limiter: AsyncLimiter, clock: ManualClock, rate: Rate, seed: int
    ) -> None:
        """Declared claims, settled in any order at any cost, leave what a history of the final costs would leave."""
        random, bucket, plan = Random(seed), SettledBucket(rate), Plan("p", (rate,))
        subject, open_claims = f"settled-{seed}-{rate.period or rate.refill}-{rate.burst}", []
        for step in range(min(self.exact_steps // 32, 500)):
            now_ms = clock.now_ms()
            if random.random() < 0.55:
                cost = random.choice((1, 1, 3, rate.burst // 2))
                decision = await limiter.acquire(subject, plan, cost, settle=True)
                assert decision.allowed == (bucket.debt(now_ms) + cost <= rate.burst), f"step {step}"
                if decision.allowed:
                    open_claims.append((decision, bucket.charge(cost, now_ms)))
            elif open_claims:
                # A claim that is never settled keeps its charge.
                decision, charge = open_claims.pop(random.randrange(len(open_claims)))
                cost = random.choice((0, 0, 1, int(charge.tokens), int(charge.tokens) + 5, 3 * rate.burst))
                if now_ms - charge.at_ms <= 600_000:
                    for _twice in range(random.choice((1, 2))):
                        await (limiter.settle(decision, cost) if cost else limiter.refund(decision))
                    bucket.settle(charge, cost, now_ms)
            clock.advance(random.choice((0, 0, 1, 250, 1_000, 7_000, 40_000)))
            remaining = (await limiter.peek(subject, plan)).usages[0].remaining
            assert remaining == bucket.remaining(clock.now_ms()), f"step {step}"

    async def test_law_15_thirty_logins(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """Thirty declared claims that take a second and turn out to be free leave the bucket full."""
        decisions = [await limiter.acquire("s", MINUTE_60, settle=True) for _ in range(30)]
        clock.advance(1_000)
        for decision in decisions:
            await limiter.refund(decision)

        assert (await limiter.peek("s", MINUTE_60)).usages[0].remaining == 60

    async def test_law_15_shared_lowest_debt(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """What one claim gets back, another that was open at the same lowest debt does not get back again."""
        first = await limiter.acquire("s", MINUTE_60, 10, settle=True)
        second = await limiter.acquire("s", MINUTE_60, 1, settle=True)
        clock.advance(6_000)
        await limiter.acquire("s", MINUTE_60, 10, settle=True)
        await limiter.refund(first)
        await limiter.refund(second)

        assert (await limiter.peek("s", MINUTE_60)).usages[0].remaining == 50

    async def test_law_15_undeclared(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """An undeclared claim gets the difference back, less what refills in the time since."""
        for _ in range(2):
            decision = await limiter.acquire("s", MINUTE_60, 20)
        clock.advance(5_000)
        await limiter.settle(decision, 8)

        assert (await limiter.peek("s", MINUTE_60)).usages[0].remaining == 20 + 5 + (12 - 5)

    async def test_law_15_costs_more(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A claim that cost more is charged beyond the burst, and the wait is exact."""
        decision = await limiter.acquire("s", MINUTE_10, 4)
        await limiter.settle(decision, 15)

        refused = await limiter.acquire("s", MINUTE_10)
        clock.advance(refused.retry_after_ms - 1)
        early = await limiter.acquire("s", MINUTE_10)
        clock.advance(1)
        assert (refused.usages[0].remaining, refused.retry_after_ms) == (0, 36_000)
        assert early.allowed is False
        assert (await limiter.acquire("s", MINUTE_10)).allowed is True

    async def test_law_15_largest_debt(self, limiter: AsyncLimiter) -> None:
        """The debt is at most twice the capacity; `health` counts the tokens beyond it."""
        decision = await limiter.acquire("s", MINUTE_10)
        await limiter.settle(decision, 100)

        assert (await limiter.peek("s", MINUTE_10)).retry_after_ms == 66_000
        assert (await limiter.health())["cut_off_tokens"] == 80

    async def test_law_15_plan_change_in_overdraft(self, limiter: AsyncLimiter) -> None:
        """An overdraft stays while the limit is counted equally, and is cut to the burst of another plan."""
        await limiter.settle(await limiter.acquire("s", MINUTE_10), 18)
        same = Plan("same", (MINUTE_10.rates[0], Rate("day", 50, 86_400_000)))
        kept = await limiter.peek("s", same)
        other = await limiter.acquire("s", Plan.of("other", per_minute=20), 2)

        assert (kept.usages[0].remaining, kept.retry_after_ms) == (0, 54_000)
        assert other.usages[0].remaining == 0

    @pytest.mark.parametrize("first", ["settle", "refund"])
    async def test_law_15_once(self, limiter: AsyncLimiter, first: str) -> None:
        """Of `settle` and `refund`, the first call for a decision counts and says so, declared or not."""
        backend = limiter.backend
        for declared in (False, True):
            decision = await limiter.acquire("s", MINUTE_60, 10, settle=declared)
            settling = backend.refund(decision) if first == "refund" else backend.settle(decision, {"requests": 0})
            counts = [await settling, await backend.settle(decision, {"requests": 5}), await backend.refund(decision)]

            assert counts == [True, False, False]

        assert (await limiter.peek("s", MINUTE_60)).usages[0].remaining == 60

    async def test_law_15_nothing_to_settle(self, limiter: AsyncLimiter) -> None:
        """A refusal and a peek have nothing to settle, and settling frees no slot."""
        plan = Plan("p", (Rate("minute", 10, 60_000),), Concurrency(1))
        held = await limiter.acquire("s", plan, 2)
        for decision in (await limiter.acquire("s", plan), await limiter.peek("s", plan)):
            assert not await limiter.backend.settle(decision, {"requests": 9})
        await limiter.settle(held, 1)

        assert [usage.remaining for usage in (await limiter.peek("s", plan)).usages] == [9, 0]

    @pytest.mark.parametrize("cost", [-1, 1.5, "1", None, True, {}, {"requests": -1}, {"tokens": 0.5}])
    async def test_law_15_malformed_cost(self, limiter: AsyncLimiter, cost: Any) -> None:
        """A malformed cost is a ValueError, and the claim can still be settled."""
        decision = await limiter.acquire("s", MINUTE_60, 10)
        with pytest.raises(ValueError, match="cost"):
            await limiter.settle(decision, cost)
        await limiter.settle(decision, 0)

        assert (await limiter.peek("s", MINUTE_60)).usages[0].remaining == 60

    async def test_law_15_measures(self, limiter: AsyncLimiter) -> None:
        """A measure that is not settled keeps its charge; one that the claim did not name is charged in full."""
        named = await limiter.acquire("s", TOKENS, {"requests": 1, "tokens": 800}, settle=True)
        await limiter.settle(named, {"tokens": 523})
        unnamed = await limiter.acquire("s", TOKENS, settle=True)
        await limiter.settle(unnamed, {"tokens": 100})

        assert [usage.remaining for usage in (await limiter.peek("s", TOKENS)).usages] == [8, 377]

    async def test_law_15_all_budgets(self, limiter: AsyncLimiter) -> None:
        """Settling corrects every budget of the claim."""
        also = [Budget("acme", MINUTE_60, scope="account"), Budget("all", MINUTE_60, scope="service")]
        less = await limiter.acquire("s", MINUTE_60, 10, also=also, settle=True)
        more = await limiter.acquire("s", MINUTE_60, 10, also=also)
        await limiter.settle(less, 4)
        await limiter.settle(more, 11)

        usages = (await limiter.peek("s", MINUTE_60, also=also)).usages
        assert [usage.remaining for usage in usages] == [45, 45, 45]

    async def test_law_15_after_a_reset(self, limiter: AsyncLimiter) -> None:
        """After a reset, a declared claim gets back what an undeclared one would."""
        before = await limiter.acquire("s", MINUTE_60, 10, settle=True)
        await limiter.reset("s")
        await limiter.acquire("s", MINUTE_60, 30)
        await limiter.refund(before)

        assert (await limiter.peek("s", MINUTE_60)).usages[0].remaining == 40

    async def test_law_15_after_a_plan_change(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """After the limit's capacity changed, a declared claim is given back like an undeclared one."""
        more = Plan.of("more", per_minute=300)
        await limiter.acquire("s", MINUTE_60, 40)
        declared = await limiter.acquire("s", MINUTE_60, 10, settle=True)
        clock.advance(5_000)
        await limiter.acquire("s", more, 5)
        await limiter.refund(declared)

        # 50 were owed, 25 of them drained under the new plan, 5 came, and 5 of the 10 had not refilled.
        assert (await limiter.peek("s", more)).usages[0].remaining == 300 - 50 + 25 - 5 + 5

    @pytest.mark.parametrize("kind", range(len(_KINDS)))
    async def test_law_15_period_changed(self, limiter: AsyncLimiter, clock: ManualClock, kind: int) -> None:
        """What a claim cost more is added to the debt as it is counted now, after its limit got another period."""
        now, steps = Plan("now", (_KINDS[kind],)), (0, 7_000, 90_000, 86_400_000, 3 * 86_400_000, 40 * 86_400_000)
        # Both have the debt of the old plan; the other one is settled by a claim of the new plan.
        for number, rate in enumerate(_KINDS):
            step_ms = steps[(number + kind) % len(steps)]
            subject, other = f"settled-{kind}-{number}", f"other-{kind}-{number}"
            before, _ = [await limiter.acquire(each, Plan("old", (rate,)), settle=True) for each in (subject, other)]
            _, after = [await limiter.acquire(each, now, 40, settle=True) for each in (subject, other)]
            clock.advance(step_ms)
            await limiter.settle(before, 11)
            await limiter.settle(after, 50)
            clock.advance(step_ms // 3)
            found, expected = await limiter.peek(subject, now), await limiter.peek(other, now)

            state = [(each.usages[0].remaining, each.usages[0].reset_after_ms) for each in (found, expected)]
            assert state[0] == state[1], f"from {rate} after {step_ms} ms"

    async def test_law_15_many_open_claims(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """Any of 1,000 claims is given back exactly after 10 minutes; 13 of the 950 that stay have been refilled."""
        plan = Plan("many", (Rate("x", 2_000, 86_400_000),))
        decisions = [await limiter.acquire("s", plan, settle=True) for _ in range(1_000)]
        clock.advance(600_000)
        for decision in decisions[::20]:
            await limiter.refund(decision)

        assert (await limiter.peek("s", plan)).usages[0].remaining == 1_063
