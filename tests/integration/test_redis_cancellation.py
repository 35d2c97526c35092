"""Callers that are cancelled before their response arrives: no slot stays taken and nothing stays charged."""

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from tests.machine import eventually
from tests.redis_groups import Cluster
from tests.redis_servers import RedisServer

from awx_ratelimit import AsyncLimiter, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.joint_claim import joint_claim

# The next refill of this rate is in the year 2969.
AGE = Rate("age", 100_000, 31_536_000_000_000, refill="calendar")
SLOTS = 1_000
PLANS = {
    "rates": Plan("rates", (AGE,)),
    "slots": Plan("slots", (), Concurrency(SLOTS)),
    "both": Plan("both", (AGE,), Concurrency(SLOTS)),
}


def run(server: RedisServer, test: Callable[[AsyncLimiter], Coroutine[Any, Any, Any]]) -> Any:
    async def opened() -> Any:
        limiter = AsyncLimiter(AsyncRedisBackend.from_url(server.socket_url, timeout_ms=5_000))
        try:
            return await asyncio.wait_for(test(limiter), 30)
        finally:
            await limiter.aclose()

    return asyncio.run(opened())


async def becomes(ask: Callable[[], Awaitable[Any]], expected: Any) -> Any:
    """What `ask` answers, as soon as it is `expected` or the deadline has passed."""
    answer = None
    for _ in range(500):
        answer = await ask()
        if answer == expected:
            break
        await asyncio.sleep(0.01)
    return answer


async def in_use(limiter: AsyncLimiter, plan: Plan) -> tuple[int, int]:
    """The slots and tokens in use."""
    seen = await limiter.peek("s", plan)
    return seen.held, sum(usage.capacity - usage.remaining for usage in seen.usages if usage.limit == "age")


@pytest.mark.parametrize(("plan", "seed"), [("rates", 1), ("slots", 2), ("both", 3), ("both", 4)])
def test_random_cancellations(redis_server: RedisServer, plan: str, seed: int) -> None:
    """If many of 1,000 tasks are cancelled at random, only what the completed ones hold stays in use."""
    draw = random.Random(seed)

    async def storm(limiter: AsyncLimiter, plan: Plan = PLANS[plan]) -> Any:
        tasks = []
        for _ in range(1_000):
            tasks.append(asyncio.create_task(limiter.acquire("s", plan)))
            if draw.random() < 0.5:
                draw.choice(tasks[-60:]).cancel()
            if draw.random() < 0.1:
                await asyncio.sleep(draw.choice((0, 0, 0, 0.001)))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [answer for answer in answers if isinstance(answer, Decision) and answer.allowed]
        cancelled = sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
        slots = len(kept) if plan.slots <= SLOTS else 0
        expected = slots, len(kept) if plan.rates else 0
        used = await becomes(lambda: in_use(limiter, plan), expected)
        for decision in kept:
            limiter.give_back(decision)
            await limiter.refund(decision)
        return used, expected, cancelled > 100, await becomes(lambda: in_use(limiter, plan), (0, 0))

    used, expected, some, at_the_end = run(redis_server, storm)
    assert used == expected
    assert some is True
    assert at_the_end == (0, 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("plan", [PLANS["slots"], PLANS["both"]], ids=lambda plan: plan.name)
def test_loop_ends_during_claims(redis_server: RedisServer, plan: Plan) -> None:
    """A loop that ends cancels its waiting claims, and the slots that they were granted are released."""
    held, under_way = _held_after_loops(redis_server, plan)
    # Collect the endpoints of ended loops, so that their warnings appear in this test.
    gc.collect()

    assert held == [0] * 8
    assert under_way > 100


def _held_after_loops(redis_server: RedisServer, plan: Plan) -> tuple[list[int], int]:
    """The slots in use after each of eight loops, and how many of their claims were cancelled."""
    limiter = AsyncLimiter(AsyncRedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    other = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    draw = random.Random(1)

    async def left_alone() -> "list[asyncio.Task[Decision]]":
        tasks = [asyncio.create_task(limiter.acquire("s", plan)) for _ in range(300)]
        await asyncio.sleep(draw.random() / 100)
        return tasks

    under_way, held = 0, []
    for _ in range(8):
        tasks = asyncio.run(left_alone())
        under_way += sum(task.cancelled() for task in tasks)
        for task in tasks:
            if not task.cancelled():
                limiter.give_back(task.result())
        held.append(eventually(lambda: other.peek("s", plan).held, 0))
    asyncio.run(limiter.aclose())
    other.close()
    return held, under_way


@pytest.mark.parametrize("on_cluster", [False, True], ids=["one call", "several slots"])
def test_cancelled_joint_claims(redis_server: RedisServer, redis_cluster: Cluster, on_cluster: bool) -> None:
    """Whenever a claim of several budgets is cancelled, all its budgets get their tokens and slots back."""
    draw, both = random.Random(5), PLANS["both"]
    budgets = Budget("s", both), Budget("acme", both, "account"), Budget("all", both, "service")
    url = redis_cluster.url if on_cluster else redis_server.socket_url

    async def used(limiter: AsyncLimiter) -> list[int]:
        seen = await limiter.backend.peek_joint(joint_claim(budgets, 1))
        return [usage.capacity - usage.remaining for usage in seen.usages]

    async def storm() -> tuple[list[Any], list[int]]:
        limiter = AsyncLimiter(AsyncRedisBackend.from_url(url, timeout_ms=5_000))
        tasks = [asyncio.create_task(limiter.claim_jointly(joint_claim(budgets, 1))) for _ in range(100)]
        for _ in tasks:
            if draw.random() < 0.6:
                draw.choice(tasks).cancel()
            await asyncio.sleep(draw.choice((0,) * 20 + (0.0005,)))
        granted = [end for end in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(end, Decision)]
        left = await becomes(lambda: used(limiter), [len(granted)] * 6)
        await limiter.aclose()
        return granted, left

    granted, left = asyncio.run(storm())

    assert 0 < len(granted) < 100
    assert left == [len(granted)] * 6
