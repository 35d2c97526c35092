"""Laws 13 and 14: several budgets in one claim, scopes and measures."""

from typing import Any

import pytest

from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.plan import STARTER, Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.errors import ImpossibleClaim, InvalidLimit
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import MINUTE_10, BackendUnderTest
from awx_ratelimit.testing.backend_laws.joint_model import JointSchedule

ACCOUNT_3 = Plan("acme", (Rate("minute", 3, 60_000),), Concurrency(2))
SERVICE = Plan("service", (Rate("second", 1_000, 1_000),), Concurrency(4))
TOKENS = Plan("tokens", (Rate("minute", 10, 60_000), Rate("tokens", 1_000, 60_000, measure="tokens")))


class JointClaimLaws(BackendUnderTest):
    """What a backend promises about claims of several budgets."""

    @pytest.mark.parametrize("seed", range(4))
    async def test_law_13_equals_the_model(self, limiter: AsyncLimiter, clock: ManualClock, seed: int) -> None:
        """On any schedule of joint claims, plan changes and clock steps, decisions equal those of the model."""
        schedule, steps = JointSchedule(limiter, clock, seed), min(self.exact_steps // 16, 2_000)

        await schedule.play(steps)

        assert schedule.refusals > steps // 25

    async def test_law_13_keys_of_one_account(self, limiter: AsyncLimiter) -> None:
        """Keys of one account share its limits; a claim that the account refuses charges its key nothing."""
        answers = [await _acquire(limiter, f"key_{number}") for number in range(3)]
        for decision in answers:
            await limiter.release(decision)
        answers += [await _acquire(limiter, f"key_{number}") for number in range(2)]

        assert [decision.allowed for decision in answers] == [True, True, False, True, False]
        assert [usage.limit for usage in answers[-1].usages if usage.refused] == ["account.minute"]
        left = [(await limiter.peek(f"key_{number}", STARTER)).usages[0].remaining for number in range(3)]
        assert left == [58, 59, 60]

    async def test_law_13_refused_by_the_first_budget(self, limiter: AsyncLimiter) -> None:
        """A claim that its first budget refuses charges the others nothing and takes no slot."""
        full = Plan.of("full", per_minute=1)
        await limiter.acquire("key", full)

        refused = await _acquire(limiter, "key", full)

        assert refused.allowed is False
        account, slots = (await limiter.peek("acme", ACCOUNT_3, scope="account")).usages
        assert (account.remaining, slots.remaining) == (3, 2)

    async def test_law_13_slots_of_all_budgets(self, limiter: AsyncLimiter) -> None:
        """A lease covers the slots of all budgets, and a release gives all of them back, once."""
        held = await _acquire(limiter, "key")
        during = [usage.remaining for usage in (await _peek(limiter)).usages if "concurrent" in usage.limit]
        for _ in range(2):
            await limiter.release(held)

        after = [usage.remaining for usage in (await _peek(limiter)).usages if "concurrent" in usage.limit]
        assert during == [4, 1, 3]
        assert after == [5, 2, 4]

    async def test_law_13_order_of_usages(self, limiter: AsyncLimiter) -> None:
        """Usages follow the order of the budgets, with the slots last in each, and know their scope and subject."""
        decision = await _acquire(limiter, "key")

        assert [(usage.limit, usage.scope, usage.subject) for usage in decision.usages] == [
            ("minute", None, "key"),
            ("day", None, "key"),
            ("concurrent", None, "key"),
            ("account.minute", "account", "acme"),
            ("account.concurrent", "account", "acme"),
            ("service.second", "service", "all"),
            ("service.concurrent", "service", "all"),
        ]
        assert (decision.subject, decision.plan, decision.cost) == ("key", STARTER, 1)

    async def test_law_13_budgets_of_one_record(self, limiter: AsyncLimiter) -> None:
        """Two budgets of one subject and scope may have different limits: both are charged."""
        day = Plan.of("day", per_day=5)
        decisions = [await limiter.acquire("s", MINUTE_10, 2, also=[Budget("s", day)]) for _ in range(3)]

        assert [decision.allowed for decision in decisions] == [True, True, False]
        assert [usage.limit for usage in decisions[-1].usages] == ["minute", "day"]
        assert (await limiter.peek("s", MINUTE_10)).usages[0].remaining == 6
        assert (await limiter.peek("s", day)).usages[0].remaining == 1

    async def test_law_13_wait(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """The wait is the longest of all budgets that refused, and exact."""
        also = [Budget("acme", Plan.of("slow", per_hour=1), scope="account")]
        await limiter.acquire("s", MINUTE_10, also=also)

        refused = await limiter.acquire("s", MINUTE_10, also=also)
        clock.advance(refused.retry_after_ms - 1)
        early = await limiter.acquire("s", MINUTE_10, also=also)
        clock.advance(1)

        assert refused.retry_after_ms == 3_600_000
        assert early.allowed is False
        assert (await limiter.acquire("s", MINUTE_10, also=also)).allowed is True

    async def test_law_14_scopes_are_separate(self, limiter: AsyncLimiter) -> None:
        """A bucket belongs to a subject, a scope and a limit: other scopes of the subject are not charged."""
        await limiter.acquire("s", MINUTE_10, 4, scope="login")

        named = await limiter.peek("s", MINUTE_10, scope="login")
        assert [(usage.limit, usage.remaining) for usage in named.usages] == [("login.minute", 6)]
        assert (await limiter.peek("s", MINUTE_10)).usages[0].remaining == 10
        assert (await limiter.peek("s", MINUTE_10, scope="log")).usages[0].remaining == 10

    @pytest.mark.parametrize("scope", [None, "login"])
    async def test_law_14_reset(self, limiter: AsyncLimiter, scope: str | None) -> None:
        """A reset clears all scopes of a subject or the one that it names, and nothing of another subject."""
        for each in (None, "login", "export"):
            await limiter.acquire("s", MINUTE_10, 3, scope=each)
        await limiter.acquire("t", MINUTE_10, 3, scope="login")

        await limiter.reset("s", scope=scope)

        left = [
            (await limiter.peek("s", MINUTE_10, scope=each)).usages[0].remaining for each in (None, "login", "export")
        ]
        assert left == ([10, 10, 10] if scope is None else [7, 10, 7])
        assert (await limiter.peek("t", MINUTE_10, scope="login")).usages[0].remaining == 7

    @pytest.mark.parametrize("scope", [None, "login"])
    async def test_law_14_reset_says_what_it_found(self, limiter: AsyncLimiter, scope: str | None) -> None:
        """A reset returns whether the subject owed anything in the scope, or in any."""
        await limiter.acquire("s", MINUTE_10, 3, scope="login")

        assert await limiter.reset("S", scope=scope) is False
        assert await limiter.reset("s", scope="export") is False
        assert await limiter.reset("s", scope=scope) is True
        assert await limiter.reset("s", scope=scope) is False

    @pytest.mark.parametrize("scope", [None, "login"])
    async def test_law_14_reset_after_all_has_refilled(
        self, limiter: AsyncLimiter, clock: ManualClock, scope: str | None
    ) -> None:
        """A reset finds a debt until all has refilled, and no longer, though a refusal has promised a longer wait."""
        plan, slower = Plan("p", (Rate("minute", 10, 60_000),)), Plan("p", (Rate("minute", 10, 600_000),))
        for subject in ("early", "late"):
            await limiter.acquire(subject, plan, 10, scope="login")
        assert (await limiter.acquire("late", slower, 1, scope="login")).allowed is False
        clock.advance(59_999)
        assert await limiter.reset("early", scope=scope) is True
        clock.advance(1)

        assert await limiter.reset("late", scope=scope) is False

    @pytest.mark.parametrize("scope", [None, "login"])
    async def test_law_14_reset_of_a_lease(self, limiter: AsyncLimiter, scope: str | None) -> None:
        """A lease is no debt: a reset finds nothing, and the slot stays taken until the release."""
        slots = Plan.of("slots", concurrent=2)
        held = await limiter.acquire("s", slots, scope="login")

        during = [await limiter.reset("s", scope=scope) for _ in range(2)]
        left = (await limiter.peek("s", slots, scope="login")).usages[0].remaining
        await limiter.release(held)

        assert (during, left) == ([False, False], 1)
        assert await limiter.reset("s", scope=scope) is False
        assert (await limiter.peek("s", slots, scope="login")).usages[0].remaining == 2

    @pytest.mark.parametrize(
        "subject", ["s", "login", "s\x00login", "login.s", "s.login", "login:s", "s:login", "{s}login"]
    )
    async def test_law_14_subjects_like_scopes(self, limiter: AsyncLimiter, subject: str) -> None:
        """No subject, whatever its text, reaches the buckets of another subject's scope."""
        await limiter.acquire("s", MINUTE_10, 10, scope="login")

        assert (await limiter.acquire(subject, MINUTE_10)).usages[0].remaining == 9
        assert (await limiter.acquire(subject, MINUTE_10, scope="s")).usages[0].remaining == 9

    @pytest.mark.parametrize("also", [
        [Budget("other", STARTER)], [Budget("a", STARTER, "x"), Budget("b", MINUTE_10, "x")],
        [Budget("a", Plan.of("p", concurrent=1))],
    ])  # fmt: skip
    async def test_law_14_equal_names(self, limiter: AsyncLimiter, also: list[Budget]) -> None:
        """A claim in which two limits have one name with its scope is a ValueError, whatever their subjects."""
        with pytest.raises(ValueError, match=r"minute|concurrent"):
            await limiter.acquire("s", STARTER, also=also)

        assert (await limiter.peek("s", STARTER)).usages[0].remaining == 60

    @pytest.mark.parametrize("scope", ["", "a.b", "A", "x" * 33, "\u00e4", 7, b"login"])
    async def test_law_14_wrong_scope(self, limiter: AsyncLimiter, scope: Any) -> None:
        """A scope is 1 to 32 of ``a-z 0-9 _ -``; anything else is an InvalidLimit that charges nothing."""
        for verb in (limiter.acquire, limiter.peek):
            with pytest.raises(InvalidLimit, match="scope"):
                await verb("s", STARTER, scope=scope)
        with pytest.raises(InvalidLimit, match="scope"):
            await limiter.reset("s", scope=scope)

    async def test_measures(self, limiter: AsyncLimiter) -> None:
        """A rate is charged its own measure; one that the cost does not name is neither charged nor refuses."""
        both = await limiter.acquire("s", TOKENS, {"requests": 1, "tokens": 900, "unknown": 5})
        more = await limiter.acquire("s", TOKENS, {"requests": 1, "tokens": 101})
        requests = await limiter.acquire("s", TOKENS)

        assert [usage.remaining for usage in both.usages] == [9, 100]
        assert [usage.limit for usage in more.usages if usage.refused] == ["tokens"]
        assert [usage.remaining for usage in requests.usages] == [8, 100]

    async def test_measure_of_no_rate(self, limiter: AsyncLimiter) -> None:
        """A cost of measures that no rate has, or of 0, takes a slot and charges nothing."""
        decisions = [await limiter.acquire("s", STARTER, cost) for cost in ({"bytes": 9}, {"requests": 0})]

        assert [decision.usages[0].remaining for decision in decisions] == [60, 60]
        assert [decision.usages[-1].remaining for decision in decisions] == [4, 3]

    @pytest.mark.parametrize(
        "cost", [{}, {"requests": -1}, {"requests": 1.5}, {"tokens": True}, {"tokens": None}, {1: 1}]
    )
    async def test_wrong_cost_by_measure(self, limiter: AsyncLimiter, cost: Any) -> None:
        """An empty mapping, and one of anything but names and integers from 0, is a ValueError."""
        for verb in (limiter.acquire, limiter.peek):
            with pytest.raises(ValueError, match="cost"):
                await verb("s", TOKENS, cost)

    async def test_law_8_impossible_in_any_budget(self, limiter: AsyncLimiter) -> None:
        """A cost above a burst of any budget raises ImpossibleClaim and charges nothing."""
        with pytest.raises(ImpossibleClaim):
            await limiter.acquire("s", STARTER, 4, also=[Budget("acme", ACCOUNT_3, "account")])
        with pytest.raises(ImpossibleClaim, match="tokens"):
            await limiter.acquire("s", TOKENS, {"requests": 1, "tokens": 1_001})

        assert (await limiter.peek("s", STARTER)).usages[0].remaining == 60
        assert (await limiter.peek("s", TOKENS)).usages[0].remaining == 10


async def _acquire(limiter: AsyncLimiter, key: str, plan: Plan = STARTER) -> Any:
    also = [Budget("acme", ACCOUNT_3, scope="account"), Budget("all", SERVICE, scope="service")]
    return await limiter.acquire(key, plan, also=also)


async def _peek(limiter: AsyncLimiter) -> Any:
    also = [Budget("acme", ACCOUNT_3, scope="account"), Budget("all", SERVICE, scope="service")]
    return await limiter.peek("key", STARTER, also=also)
