"""One backend for several event loops, at once or one after another, and after it was closed."""

import asyncio
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter
from tests.machine import eventually
from tests.redis_servers import RedisServer

from awx_ratelimit import AsyncLimiter, Concurrency, Limiter, Plan
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend

PLAN = Plan.of("loops", per_day=500, concurrent=1_000)
SHORT = Plan("short", (), Concurrency(100, ttl_ms=1_000))


@pytest.fixture
def limiter(redis_server: RedisServer) -> AsyncLimiter:
    """A limiter for any loop, closed at the end of a loop."""
    return AsyncLimiter(AsyncRedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))


@pytest.fixture
def other(redis_server: RedisServer) -> Iterator[Limiter]:
    """A limiter that acts as another process."""
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    yield limiter
    limiter.close()


class Yielding(asyncio.SelectorEventLoop):
    """A loop that lets other threads run at every turn."""

    def is_closed(self) -> bool:
        select.select((), (), (), 0)
        return super().is_closed()


def test_loops_in_threads(limiter: AsyncLimiter, other: Limiter) -> None:
    """Loops in many threads get exactly the limit, and each closes its own connection."""

    async def some() -> Any:
        try:
            return await asyncio.gather(*(limiter.acquire("s", PLAN) for _ in range(8)))
        finally:
            await limiter.aclose()

    def loop(_: int) -> Any:
        with asyncio.Runner(loop_factory=Yielding) as runner:
            return runner.run(some())

    with ThreadPoolExecutor(16) as threads:
        decisions = [decision for part in threads.map(loop, range(100)) for decision in part]

    admitted = [decision for decision in decisions if decision.allowed]
    for decision in admitted:
        limiter.give_back(decision)
    asyncio.run(some())
    assert len(decisions) == 800
    assert len(admitted) == 500
    assert eventually(lambda: other.peek("s", PLAN).held, 0) == 0


def test_loops_in_turn(limiter: AsyncLimiter, other: Limiter) -> None:
    """Each `asyncio.run` decides; the one that closes the limiter releases its leases."""

    async def one() -> Any:
        decision = await limiter.acquire("s", PLAN)
        await limiter.aclose()
        return decision

    decisions = [asyncio.run(one()) for _ in range(5)]
    for decision in decisions:
        limiter.give_back(decision)

    assert [decision.held for decision in decisions] == [1] * 5
    assert eventually(lambda: other.peek("s", PLAN).held, 0) == 0


def test_use_after_close(redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter) -> None:
    """A limiter that is used after `close` renews its leases, and closing twice is harmless."""
    limiter = open_limiter(redis_server.socket_url)
    released = limiter.acquire("s", SHORT)
    limiter.release(released)
    limiter.close()
    limiter.close()
    between = other.peek("s", SHORT).held

    kept = limiter.acquire("s", SHORT)
    with redis_server.client() as client:
        client.flushall()
    assert between == 0
    assert kept.allowed is True
    assert eventually(lambda: other.peek("s", SHORT).held, 1) == 1
