"""The laws of every backend, as tests to inherit.

    class TestMyBackend(BackendContract):
        def backend(self, clock):
            return MyBackend(clock=clock)

The kit is written once, as async tests; a synchronous backend that fits an event loop enters through `NonBlocking`,
and one that waits is called in threads. It needs pytest and anyio's plugin for it.
"""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import GROWTH, STARTER, Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.errors import ImpossibleClaim
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing.clock import ManualClock
from awx_ratelimit.testing.envelope import envelope_excess
from awx_ratelimit.testing.malformed import MalformedClaims
from awx_ratelimit.testing.schedules import Schedule
from awx_ratelimit.testing.threads import awaited

START_MS = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000
MINUTE_10 = Plan.of("ten", per_minute=10)
CALENDAR_3 = Plan("calendar", (Rate("day", 3, 86_400_000, refill="calendar"),))
TWO_RATES = Plan("two", (Rate("second", 2, 1_000), Rate("minute", 10, 60_000)), Concurrency(1))

#: Subjects that would reach another's state if a backend built keys or statements from them.
STRANGE_SUBJECTS = (
    " ", "a", "A", "a:b", "{a}", "{a}b", "a\x00", "\x00a", "\n", "*", "%s", "'; --", "../a",
    "\u00e4", "a\u0308", "\U0001f511", "\ud800", "\udfff", "x" * 10_000, "x" * 9_999 + "y",
)  # fmt: skip


@pytest.mark.anyio
class BackendContract(MalformedClaims):
    """Inherit, and say how a backend is made. Each test states one promise; none of them sleeps."""

    #: How many random steps law 1 is tested with, spread over the seeds.
    exact_steps = 8_000

    def backend(self, clock: ManualClock) -> Any:
        """A new backend, without any state, whose time is `clock`."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The event loop."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of the backend, at midnight UTC."""
        return ManualClock(START_MS)

    @pytest.fixture
    async def limiter(self, clock: ManualClock) -> AsyncIterator[AsyncLimiter]:
        """A limiter over a new backend."""
        limiter = AsyncLimiter(awaited(self.backend(clock)))
        yield limiter
        await limiter.aclose()

    @pytest.mark.parametrize("seed", range(8))
    async def test_law_1_decisions_equal_those_of_a_model_in_fractions(
        self, limiter: AsyncLimiter, clock: ManualClock, seed: int
    ) -> None:
        """On any schedule of claims, plan changes and clock steps, decisions equal those of the Fraction model."""
        schedule = Schedule(limiter, clock, seed)

        await schedule.play(self.exact_steps // 8)

        assert schedule.refusals > self.exact_steps // 200

    async def test_law_2_a_claim_refused_by_one_rate_charges_no_other(self, limiter: AsyncLimiter) -> None:
        """A claim that one rate refuses leaves the other rates and the slots as they were."""
        await spend(limiter, TWO_RATES, 2)
        before = await limiter.peek("s", TWO_RATES)

        refused = [await limiter.acquire("s", TWO_RATES) for _ in range(50)]

        after = await limiter.peek("s", TWO_RATES)
        assert [d.allowed for d in refused] == [False] * 50
        assert after.usages == before.usages

    async def test_law_2_a_claim_refused_by_the_slots_charges_no_rate(self, limiter: AsyncLimiter) -> None:
        """A claim that finds no slot leaves every rate as it was."""
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
    async def test_law_3_waiting_the_promised_time_succeeds_and_a_millisecond_less_does_not(
        self, limiter: AsyncLimiter, clock: ManualClock, plan: Plan, spent: int, cost: int
    ) -> None:
        """A claim refused with a wait of w is refused at w - 1 ms and allowed at w ms, for the longest of its waits."""
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

    async def test_law_4_a_continuous_rate_never_admits_more_than_its_envelope(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """Over any interval the admitted cost is at most burst + tokens * t / period, whatever the callers try."""
        plan = Plan("odd", (Rate("x", 7, 1_000, burst=5),))
        draw = random.Random(4)
        admitted: list[tuple[int, int]] = []
        for _ in range(1_500):
            clock.advance(draw.choice((0, 0, 1, 13, 140, 700)))
            cost = draw.randint(1, 3)
            if (await limiter.acquire("s", plan, cost)).allowed:
                admitted.append((clock.now_ms(), cost))

        assert envelope_excess(admitted, burst=5, tokens=7, period_ms=1_000) <= 0

    async def test_law_4_a_calendar_rate_admits_its_tokens_between_boundaries(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """Between two boundaries a calendar rate admits its tokens, and at the boundary all of them again."""
        clock.advance(86_400_000 - 1)
        before = [(await limiter.acquire("s", CALENDAR_3)).allowed for _ in range(4)]

        clock.advance(1)

        after = [(await limiter.acquire("s", CALENDAR_3)).allowed for _ in range(4)]
        assert before == [True] * 3 + [False]
        assert after == [True] * 3 + [False]

    async def test_law_5_live_leases_never_exceed_the_slots(self, limiter: AsyncLimiter) -> None:
        """Of more claims than slots, as many are allowed as there are slots, each with a lease of its own."""
        decisions = [await limiter.acquire("s", STARTER) for _ in range(8)]

        leases = {d.lease.id for d in decisions if d.lease}
        assert [d.allowed for d in decisions] == [True] * 5 + [False] * 3
        assert len(leases) == 5

    async def test_law_5_releasing_twice_gives_one_slot_back(self, limiter: AsyncLimiter) -> None:
        """A second release of a decision, now or later, frees nothing more."""
        first, *_ = [await limiter.acquire("s", STARTER) for _ in range(5)]
        for _ in range(3):
            await limiter.release(first)
        retaken = await limiter.acquire("s", STARTER)
        await limiter.release(first)

        assert retaken.allowed is True
        assert (await limiter.acquire("s", STARTER)).allowed is False

    async def test_law_5_releasing_a_decision_without_a_lease_does_nothing(self, limiter: AsyncLimiter) -> None:
        """A refusal, a peek and a decision of a plan without slots can be released; nothing comes of it."""
        held = [await limiter.acquire("s", TWO_RATES)]

        for decision in (await limiter.acquire("s", TWO_RATES), await limiter.peek("s", TWO_RATES),
                         await limiter.acquire("s", MINUTE_10)):  # fmt: skip
            await limiter.release(decision)

        assert held[0].allowed is True
        assert (await limiter.peek("s", TWO_RATES)).allowed is False

    async def test_law_5_hold_gives_the_slot_back_when_its_block_raises(self, limiter: AsyncLimiter) -> None:
        """The slot of `hold` is free after its block, however the block ends."""
        with pytest.raises(ZeroDivisionError):
            async with limiter.hold("s", TWO_RATES) as decision:
                raise ZeroDivisionError

        assert decision.allowed is True
        assert (await limiter.peek("s", TWO_RATES)).usages[-1].remaining == 1

    async def test_law_5_a_lease_that_is_renewed_outlives_its_ttl(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """However long it is held, a renewed lease keeps its slot, and gives it back when it is released."""
        plan = Plan("p", (), Concurrency(1, ttl_ms=3_000))
        held = await limiter.acquire("s", plan)
        for _ in range(5):
            clock.advance(2_000)
            await limiter.renew_leases()
        meanwhile = await limiter.acquire("s", plan)

        await limiter.release(held)

        assert meanwhile.allowed is False
        assert (await limiter.acquire("s", plan)).allowed is True

    async def test_law_6_a_clock_a_little_back_drains_nothing_and_adds_the_step_to_waits(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """After a step back of at most a period a wait is longer by the step, and still exact."""
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

    async def test_law_6_a_clock_far_back_counts_the_debt_from_now(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """After a step back of more than a period the wait is the ordinary one, from the first refusal on."""
        await spend(limiter, MINUTE_10, 10)

        clock.advance(-100_000_000)

        refused = await limiter.acquire("s", MINUTE_10)
        clock.advance(refused.retry_after_ms)
        assert refused.retry_after_ms == 6_000
        assert (await limiter.acquire("s", MINUTE_10)).allowed is True

    async def test_law_6_a_calendar_rate_counts_its_boundary_from_the_later_time(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """After a step back over midnight, what the new day used is owed until that day ends."""
        clock.advance(10)
        await spend(limiter, CALENDAR_3, 3)

        clock.advance(-20)

        refused = await limiter.acquire("s", CALENDAR_3)
        assert refused.allowed is False
        assert refused.retry_after_ms == 86_400_000 + 10

    async def test_law_7_an_upgrade_carries_what_was_used(self, limiter: AsyncLimiter) -> None:
        """With 50 of 60 used, an upgrade to 300 leaves 250."""
        await spend(limiter, STARTER, 50)

        assert (await limiter.peek("s", GROWTH)).usages[0].remaining == 250

    async def test_law_7_after_a_downgrade_nobody_waits_longer_than_a_full_refill(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """A debt above the new capacity is cut to it, and the promised wait is exact though refusals write nothing."""
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

    async def test_law_7_a_limit_that_is_not_named_is_kept(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """What a limit owes is still owed when a plan names it again, less what drained meanwhile."""
        await spend(limiter, MINUTE_10, 10)
        for _ in range(3):
            await limiter.acquire("s", CALENDAR_3)
            clock.advance(2_000)

        assert (await limiter.peek("s", MINUTE_10)).usages[0].remaining == 1

    async def test_law_7_a_debt_in_another_unit_is_rounded_up(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A debt that the new unit cannot count exactly is counted as more, never as less."""
        await spend(limiter, Plan("a", (Rate("x", 1, 1_000, burst=9),)), 1)
        clock.advance(1)

        plan = Plan("b", (Rate("x", 1, 7, burst=9),))
        assert (await limiter.peek("s", plan, 9)).retry_after_ms == 6

    async def test_law_7_leases_above_a_lowered_slot_count_run_on(self, limiter: AsyncLimiter) -> None:
        """With fewer slots than leases the leases live on, and a new claim waits until there is room."""
        three, one = Plan("three", (), Concurrency(3)), Plan("one", (), Concurrency(1))
        held = [await limiter.acquire("s", three) for _ in range(3)]

        answers = []
        for decision in held:
            answers.append((await limiter.peek("s", one)).allowed)
            await limiter.release(decision)

        assert answers == [False] * 3
        assert (await limiter.peek("s", one)).allowed is True

    async def test_law_8_an_impossible_claim_charges_nothing(self, limiter: AsyncLimiter) -> None:
        """A cost above a burst raises ImpossibleClaim before anything is asked or charged, in acquire and in peek."""
        for verb in (limiter.acquire, limiter.peek):
            with pytest.raises(ImpossibleClaim):
                await verb("s", TWO_RATES, 3)

        assert [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages] == [2, 10, 1]

    @pytest.mark.parametrize("cost", [0, -1, 1.0, 1.5, "1", None, True, float("nan")])
    async def test_a_cost_is_a_whole_number_of_at_least_1(self, limiter: AsyncLimiter, cost: Any) -> None:
        """Any other cost is a ValueError, and charges nothing."""
        with pytest.raises(ValueError, match="cost"):
            await limiter.acquire("s", STARTER, cost)

        assert (await limiter.peek("s", STARTER)).usages[0].remaining == 60

    async def test_law_9_a_subject_that_owes_nothing_is_as_a_new_one(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """Once everything has drained and every slot is back, nothing tells the subject from a new one."""
        await spend(limiter, TWO_RATES, 2)

        clock.advance(12_000)

        old, new = [await limiter.peek(subject, TWO_RATES) for subject in ("s", "new")]
        assert old.usages == new.usages

    async def test_law_10_subjects_of_any_content_never_touch(self, limiter: AsyncLimiter) -> None:
        """What one subject uses, whatever its text, no other subject owes."""
        for subject in STRANGE_SUBJECTS:
            assert (await limiter.peek(subject, TWO_RATES)).usages[0].remaining == 2, repr(subject)
            await limiter.acquire(subject, TWO_RATES, 2)

        remaining = [(await limiter.peek(subject, TWO_RATES)).usages[0].remaining for subject in STRANGE_SUBJECTS]
        assert remaining == [0] * len(STRANGE_SUBJECTS)

    async def test_law_11_a_limit_in_shadow_refuses_nobody(self, limiter: AsyncLimiter) -> None:
        """A shadow limit that is over is reported, takes no part in the answer, and charges nothing more."""
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

    async def test_law_11_a_plan_in_shadow_refuses_nobody(self, limiter: AsyncLimiter) -> None:
        """Each limit of a shadow plan is in shadow; a cost above a burst is reported as refused, not raised."""
        plan = Plan.of("p", per_minute=2, concurrent=1, shadow=True)
        decisions = [await limiter.acquire("s", plan, cost) for cost in (1, 5, 1)]

        refused = [tuple(usage.refused for usage in decision.usages) for decision in decisions]
        assert [d.allowed for d in decisions] == [True] * 3
        assert refused == [(False, False), (True, True), (False, True)]

    async def test_law_11_a_refused_claim_charges_no_shadow_limit(self, limiter: AsyncLimiter) -> None:
        """When an enforced limit refuses, a shadow limit with room is not charged either."""
        plan = Plan("p", (Rate("minute", 5, 60_000, shadow=True), Rate("day", 1, 86_400_000)))

        decisions = [await limiter.acquire("s", plan) for _ in range(3)]
        assert [decision.usages[0].remaining for decision in decisions] == [4, 4, 4]

    async def test_law_12_a_refund_gives_back_what_time_has_not(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """Of 6 tokens, 2 of which have drained since, a refund gives back 4, once."""
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
        """Before the boundary all of it comes back; after it, the new period's debt is left alone."""
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
        """A refusal and a peek refund nothing, and a refund leaves the slot where it is."""
        held = await limiter.acquire("s", TWO_RATES, 2)
        for decision in (await limiter.acquire("s", TWO_RATES), await limiter.peek("s", MINUTE_10)):
            await limiter.refund(decision)
        before = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        await limiter.refund(held)

        after = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        assert before == [0, 8, 0]
        assert after == [2, 10, 0]

    async def test_law_12_a_refund_is_in_the_units_of_the_plan_as_it_is_now(self, limiter: AsyncLimiter) -> None:
        """After a plan change the tokens come back to the limit of the same name."""
        decision = await spend(limiter, STARTER, 50)
        await spend(limiter, GROWTH, 10)
        await limiter.refund(decision)

        assert (await limiter.peek("s", GROWTH)).usages[0].remaining == 290

    async def test_a_lease_ends_after_its_longest_hold(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """With `max_hold_ms` a slot is free again after that long, and a release that comes late frees nothing more."""
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

    async def test_reset_clears_debts_and_no_lease(self, limiter: AsyncLimiter) -> None:
        """After a reset nothing is owed, the slots in use are still in use, and one of them can be given back."""
        held = await limiter.acquire("s", TWO_RATES, 2)

        await limiter.reset("s")

        after = [usage.remaining for usage in (await limiter.peek("s", TWO_RATES)).usages]
        await limiter.release(held)
        assert after == [2, 10, 0]
        assert (await limiter.peek("s", TWO_RATES)).usages[-1].remaining == 1

    async def test_slots_are_worth_waiting_for_as_long_as_leases_last(
        self, limiter: AsyncLimiter, clock: ManualClock
    ) -> None:
        """The wait for a slot is the mean hold time over the slots: 1 s while nothing is known, and at most 30 s."""
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


async def spend(limiter: AsyncLimiter, plan: Plan, cost: int) -> Decision:
    """Use `cost` tokens of subject ``s`` and no slot. Raises AssertionError where they are not there."""
    decision = await limiter.acquire("s", plan, cost)
    await limiter.release(decision)
    assert decision.allowed, decision
    return decision
