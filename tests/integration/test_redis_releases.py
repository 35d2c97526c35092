"""A slot is released wherever its holder ends, and whatever the server does."""

import asyncio
import gc
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter, stopped
from tests.machine import eventually, timed
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import AsyncLimiter, Concurrency, Decision, Limiter, Plan
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend

PLAN = Plan("releases", (), Concurrency(1_000))


@pytest.fixture
def limiter(redis_server: RedisServer) -> Iterator[Limiter]:
    """For threads."""
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    yield limiter
    limiter.close()


def told(module: str, *args: str) -> list[bytes]:
    """The words that a process of its own says at its end."""
    command = [sys.executable, "-m", f"tests.integration.{module}", *args]
    answer = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=50, check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout.split()


def held(limiter: Any) -> Callable[[], int]:
    return lambda: int(limiter.peek("s", PLAN).held)


@contextmanager
def signals(handle: Callable[[], Any], *, every_s: float) -> Iterator[list[int]]:
    """The main thread is interrupted again and again, at random moments; how often is counted."""
    times, over, draw = [0], threading.Event(), random.Random(1)

    def handler(*_: Any) -> None:
        times[0] += 1
        handle()

    def send() -> None:
        while not over.wait(every_s * draw.random() * 2):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("by", ["release", "give_back", "hold"])
def test_a_cancelled_task_releases_its_slot(redis_server: RedisServer, by: str) -> None:
    """A release never suspends, so a second cancellation does not interrupt it."""

    async def holding(limiter: AsyncLimiter, taken: asyncio.Semaphore) -> None:
        if by == "hold":
            async with limiter.hold("s", PLAN):
                taken.release()
                await asyncio.Event().wait()
        decision = await limiter.acquire("s", PLAN)
        taken.release()
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            if by == "release":
                await limiter.release(decision)
            else:
                limiter.give_back(decision)

    async def cancelled() -> list[int]:
        limiter = AsyncLimiter(AsyncRedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
        taken = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(holding(limiter, taken)) for _ in range(20)]
        for _ in tasks:
            await taken.acquire()
        seen = [(await limiter.peek("s", PLAN)).held]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await limiter.aclose()
        seen.append((await limiter.peek("s", PLAN)).held)
        await limiter.aclose()
        return seen

    assert asyncio.run(cancelled()) == [20, 0]


def test_releases_precede_the_next_claim(redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A release is sent no later than the next claim of its subject."""
    limiter = open_limiter(redis_server.socket_url)
    one = Plan("one", (), Concurrency(1))
    with ThreadPoolExecutor(16) as threads:
        kept = list(threads.map(lambda number: limiter.acquire(f"s{number}", one), range(1_000)))

    for decision in kept:
        limiter.give_back(decision)
    again = [limiter.acquire(decision.subject, one).allowed for decision in kept[::-10]]
    assert all(kept)
    assert again == [True] * 100


def test_a_finalizer_may_release(limiter: Limiter) -> None:
    """A finalizer may release at any moment and in any thread."""

    class Request:
        def __init__(self) -> None:
            self.itself = self
            self.decision = limiter.acquire("s", PLAN)

        def __del__(self) -> None:
            limiter.release(self.decision)

    def make(_: int) -> None:
        Request()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, range(200)))
    gc.collect()
    assert eventually(held(limiter), 0) == 0


def test_a_signal_handler_may_release(limiter: Limiter) -> None:
    """A signal handler may release while it interrupts claims, releases or the maintenance thread."""
    kept: list[Decision] = []

    def release() -> None:
        while kept:
            limiter.release(kept.pop())

    with signals(release, every_s=0.0005) as times:
        for _ in range(600):
            kept.append(limiter.acquire("s", PLAN))
            limiter.release(limiter.acquire("s", PLAN))
    release()
    assert eventually(held(limiter), 0) == 0
    assert times[0] > 50


def test_an_interrupted_claim_leaves_no_lock(redis_server: RedisServer) -> None:
    """When a signal handler raises, other claims go on, no lock stays taken, and no slot outlives its ttl."""
    with timed() as watch:
        left, slowest_ms = map(int, told("redis_interrupted", redis_server.socket_url))

    assert left == 0
    assert slowest_ms < watch.limit(400)


def test_a_release_never_waits(start_redis: StartRedis, open_limiter: OpenLimiter) -> None:
    """A release returns at once from a hanging server, which gets it within about a second of its recovery."""
    server = start_redis()
    limiter = open_limiter(server.socket_url, timeout_ms=200)
    other = open_limiter(server.socket_url)
    kept = [limiter.acquire("s", PLAN) for _ in range(3)]

    with stopped(server):
        with timed() as watch:
            for decision in kept:
                limiter.give_back(decision)
        tried = eventually(lambda: limiter.backend._maintenance._failing, expected=True)

    assert watch.seconds < watch.limit(0.1)
    assert tried is True
    assert eventually(held(other), 0) == 0


@pytest.mark.parametrize(("in_flight", "shortest_s", "longest_s"), [(False, 0.002, 0.002), (True, 0.034, 0.05)])
def test_when_a_release_travels_alone(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch, in_flight: bool, shortest_s: float, longest_s: float
) -> None:
    """A release waits for a claim to travel with: 2 ms, or 50 ms while claims are in flight."""
    maintenance, slept_s = limiter.backend._maintenance, list[float]()  # type: ignore[attr-defined]
    decision = limiter.acquire("s", PLAN)
    maintenance._thread.stop(5)
    limiter.release(decision)
    maintenance._thread.stop(5)
    monkeypatch.setattr(maintenance._thread, "pause", slept_s.append)  # its result, None, means: go on
    claim = maintenance.session.lease_ids.new() if in_flight else 0
    maintenance._release_and_renew(False)
    maintenance.session.lease_ids.finish(claim)

    assert shortest_s <= sum(slept_s) <= longest_s
    assert held(limiter)() == 0


def test_one_warning_at_the_end(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """If a server does not answer at the end of a process, one warning says what becomes of the leases."""
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=100))
    limiter.acquire("one warning", PLAN)
    maintenance = limiter.backend._maintenance  # type: ignore[attr-defined]
    with stopped(redis_server), caplog.at_level("WARNING", "awx_ratelimit"):
        limiter.flush()
        limiter.close()
        maintenance._before_exit()

    told = [record.getMessage() for record in caplog.records if "leases" in record.getMessage()]
    assert [message.partition(":")[0] for message in told] == [
        "leases cannot be released or renewed, and lapse after their ttl"
    ]
