"""Law 17: claims that wait are admitted in order, and not beyond their deadline."""

import asyncio
from collections.abc import Callable
from typing import Any

from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.backend_laws.backend_under_test import BackendUnderTest

SECOND_2 = Plan.of("two", per_second=2)
_POLLS = 4_000


class WaitLaws(BackendUnderTest):
    """What a limiter over a backend promises about claims that wait."""

    async def test_law_17_waits_for_the_refusal(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A claim is admitted in the millisecond in which its wait ends, and is not decided before."""
        await limiter.acquire("s", SECOND_2, 2)
        task = asyncio.create_task(limiter.acquire("s", SECOND_2, wait_ms=500))
        await _until(lambda: clock.alarms == 1)
        clock.advance(499)
        done_early = task.done()
        clock.advance(1)

        decision: Decision = await task
        assert done_early is False
        assert decision.allowed is True
        assert decision.decided_at_ms == clock.now_ms()

    async def test_law_17_refused_at_once(self, limiter: AsyncLimiter) -> None:
        """A claim whose wait is longer than its bound is refused without waiting, and charges nothing."""
        await limiter.acquire("s", SECOND_2, 2)
        refused = await limiter.acquire("s", SECOND_2, wait_ms=499)

        assert (refused.allowed, refused.retry_after_ms) == (False, 500)

    async def test_law_17_in_order(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """Equal claims are admitted in the order in which they came, and one behind them is refused by its place."""
        await limiter.acquire("s", SECOND_2, 2)
        admitted: list[int] = []

        async def wait(number: int) -> None:
            if (await limiter.acquire("s", SECOND_2, wait_ms=60_000)).allowed:
                admitted.append(number)

        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(wait(number)))
            await _until(lambda number=number: clock.alarms == number + 1)  # type: ignore[misc]
        refused = await limiter.acquire("s", SECOND_2, wait_ms=3_499)
        for number in range(6):
            clock.advance(500)
            await _until(lambda number=number: len(admitted) == number + 1)  # type: ignore[misc]
            await _until(lambda number=number: clock.alarms == 5 - number)  # type: ignore[misc]
        await asyncio.gather(*tasks)

        assert admitted == [0, 1, 2, 3, 4, 5]
        assert refused.allowed is False

    async def test_law_17_slot_of_an_account(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A claim of several budgets waits for the slot of its account, and a release in this process wakes it."""
        also = [Budget("acme", Plan.of("account", per_minute=9, concurrent=1), scope="account")]
        held = await limiter.acquire("key_1", SECOND_2, also=also)
        task = asyncio.create_task(limiter.acquire("key_2", SECOND_2, also=also, wait_ms=60_000))
        await _until(lambda: clock.alarms == 1)
        await limiter.release(held)

        decision: Decision = await asyncio.wait_for(task, 30)
        assert decision.allowed is True
        assert clock.alarms == 0

    async def test_law_17_order_of_an_account(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """Different keys that wait for the limit of their account are admitted in the order in which they came."""
        also = [Budget("acme", Plan.of("account", per_second=1), scope="account")]
        await limiter.acquire("key_0", SECOND_2, also=also)
        tasks, admitted = list[asyncio.Task[Any]](), list[int]()

        async def wait(number: int) -> None:
            await limiter.acquire(f"key_{number % 3}", SECOND_2, also=also, wait_ms=60_000)
            admitted.append(number)

        for number in range(5):
            tasks.append(asyncio.create_task(wait(number)))
            await _until(lambda number=number: clock.alarms == number + 1)  # type: ignore[misc]
        for number in range(5):
            clock.advance(1_000)
            await _until(lambda number=number: len(admitted) == number + 1)  # type: ignore[misc]
            await _until(lambda number=number: clock.alarms == 4 - number)  # type: ignore[misc]
        await asyncio.gather(*tasks)

        assert admitted == [0, 1, 2, 3, 4]

    async def test_law_17_cancelled(self, limiter: AsyncLimiter, clock: ManualClock) -> None:
        """A cancelled claim charges nothing and leaves nothing, and the next one takes its turn."""
        await limiter.acquire("s", SECOND_2, 2)
        tasks: list[asyncio.Task[Any]] = []
        for number in range(2):
            tasks.append(asyncio.create_task(limiter.acquire("s", SECOND_2, wait_ms=60_000)))
            await _until(lambda number=number: clock.alarms == number + 1)  # type: ignore[misc]
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        await _until(lambda: clock.alarms == 1)
        clock.advance(500)

        decision: Decision = await tasks[1]
        assert decision.allowed is True
        assert decision.usages[0].remaining == 0
        assert clock.alarms == 0


async def _until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until `holds` is true. Raises AssertionError after some seconds."""
    for _ in range(_POLLS):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the claims did not wait as expected")
