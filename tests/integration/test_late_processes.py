"""A guard over a real Redis that is idle, in a process that is late: Redis decides, and its breaker counts calls."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any, NamedTuple

import pytest
from tests.chaos.proxy import Fault, Proxy, late, proxied, whole
from tests.redis_servers import HOST, RedisServer

from awx_ratelimit import AsyncLimiter, Decision, Limiter, Plan
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend

BUDGET_S = 0.05
#: An event loop stands still for so long, and a thread waits for the interpreter.
BLOCKED_S = 3 * BUDGET_S
CLAIMS = 32
PLAN = Plan.of("p", per_minute=1_000_000, concurrent=1_000)


def by_redis(decisions: list[Decision]) -> int:
    """How many of them Redis made."""
    return sum(decision.plan is PLAN for decision in decisions)


class Claim(NamedTuple):
    """A decision, and how long it took."""

    decision: Decision
    seconds: float

    @property
    def is_explained(self) -> bool:
        """Whether Redis decided, or did not within the budget, as on a busy machine."""
        return self.decision.plan is PLAN or self.seconds >= BUDGET_S


def spin(seconds: float) -> None:
    """Keep the interpreter busy, as a handler with much to compute does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def first_answer_late() -> Fault:
    """The first response comes too late for its caller, and all others come in time."""
    faults = chain([late], repeat(whole))

    def fault(client: socket.socket, answer: bytes) -> None:
        next(faults)(client, answer)

    return fault


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with proxied(redis_server.port) as proxy:
        yield proxy


def test_one_late_answer_with_many_tasks_waiting_is_one_failure(proxy: Proxy) -> None:
    """All claims that wait for one answer fail together, and the next claims are Redis's own."""

    async def claim(limiter: AsyncLimiter) -> Claim:
        began_s = time.monotonic()
        return Claim(await limiter.acquire("s", PLAN), time.monotonic() - began_s)

    async def claimed() -> tuple[Any, list[Claim]]:
        limiter = AsyncLimiter(AsyncGuardedBackend(AsyncRedisBackend.from_url(f"redis://{HOST}:{proxy.port}")))
        await limiter.acquire("s", PLAN)
        proxy.fault = first_answer_late()
        await asyncio.gather(*(limiter.acquire("s", PLAN) for _ in range(CLAIMS)))
        after = [await claim(limiter) for _ in range(CLAIMS)]
        health = await limiter.health()
        await limiter.aclose()
        return health, after

    health, after = asyncio.run(claimed())

    assert proxy.spoiled
    assert health["outages"] == 0
    assert [claim for claim in after if not claim.is_explained] == []


def test_one_late_answer_with_many_threads_waiting_is_one_failure(proxy: Proxy) -> None:
    """Threads are counted as tasks are: by the call."""

    def claim() -> Claim:
        began_s = time.monotonic()
        return Claim(limiter.acquire("s", PLAN), time.monotonic() - began_s)

    limiter = Limiter(GuardedBackend(RedisBackend.from_url(f"redis://{HOST}:{proxy.port}")))
    limiter.acquire("s", PLAN)
    proxy.fault = first_answer_late()
    with ThreadPoolExecutor(CLAIMS) as threads:
        list(threads.map(lambda _: limiter.acquire("s", PLAN), range(CLAIMS)))
    after = [claim() for _ in range(CLAIMS)]
    health = limiter.health()
    limiter.close()

    assert proxy.spoiled
    assert health["outages"] == 0
    assert [claim for claim in after if not claim.is_explained] == []


@pytest.mark.parametrize("turns", [0, 1, 2, 3], ids=lambda turns: f"after {turns} turns")
def test_a_blocked_event_loop_is_no_outage(redis_server: RedisServer, turns: int) -> None:
    """Wherever the loop stands still between a claim and its answer, the answer that waits in the socket is taken."""

    async def claimed() -> tuple[list[Decision], Any]:
        limiter = AsyncLimiter(AsyncGuardedBackend(AsyncRedisBackend.from_url(redis_server.socket_url)))
        # On a busy machine the first connection may take longer than the budget.
        while not by_redis([await limiter.acquire("s", PLAN)]):
            pass
        before, decisions = (await limiter.health())["decided_without_backend"], []
        for _ in range(5):
            claims = [asyncio.ensure_future(limiter.acquire("s", PLAN)) for _ in range(CLAIMS)]
            for _ in range(turns):
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(spin, BLOCKED_S)
            decisions += await asyncio.gather(*claims)
        after = (await limiter.health())["decided_without_backend"]
        await limiter.aclose()
        return decisions, after - before

    decisions, decided_locally = asyncio.run(claimed())

    assert by_redis(decisions) == len(decisions)
    assert decided_locally == 0


@contextmanager
def busy_interpreter() -> Iterator[None]:
    """A thread that computes, so that another one waits longer than a budget each time it wants the interpreter."""
    before, done = sys.getswitchinterval(), threading.Event()

    def compute() -> None:
        while not done.is_set():
            spin(0.01)

    thread = threading.Thread(target=compute)
    sys.setswitchinterval(1.5 * BUDGET_S)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(before)


def test_a_thread_that_waits_for_the_interpreter_is_no_outage(redis_server: RedisServer) -> None:
    """What Redis answered while a thread was not running is its answer, and threads that wait behind it get theirs."""
    limiter = Limiter(GuardedBackend(RedisBackend.from_url(redis_server.socket_url)))
    limiter.acquire("s", PLAN)
    with busy_interpreter(), ThreadPoolExecutor(3) as threads:
        decisions = list(threads.map(lambda _: limiter.acquire("s", PLAN), range(12)))
    health = limiter.health()
    limiter.close()

    assert by_redis(decisions) == len(decisions)
    assert health["outages"] == 0
