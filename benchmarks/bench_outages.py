"""The cost of a decision while Redis is stopped: ``python -m benchmarks.bench_outages``.

A Redis server is stopped (SIGSTOP) and resumed. The control is a bare MemoryBackend that decides in turn; the figure is
the extra time of a guarded decision. Not timed: releases, and the waits between rounds.
"""

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from statistics import median, quantiles
from typing import Any, NamedTuple

from benchmarks.redis_sides import PLAN
from tests.redis_servers import RedisServer, running_redis

from awx_ratelimit import AsyncLimiter, Limiter, MemoryBackend
from awx_ratelimit.backends.open import open_async_backend, open_backend

BUDGET_MS = 50
ROUNDS = 12
CALLS = 200
#: Longer than a breaker waits before it asks again.
LULL_S = 2.2
_FIRST = 5


class Added(NamedTuple):
    """What a guarded decision took longer than the control, in us: of each phase."""

    before: list[float]
    waits: list[float]
    opened: list[float]
    again: list[float]


def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as server:
        measured = {"one thread": _in_thread(server), "one task": asyncio.run(_in_task(server))}
    print("\n## Redis is stopped\n")
    print(f"A budget of {BUDGET_MS} ms, {ROUNDS} outages each, CPython {platform.python_version()}.")
    print("By how much a decision takes longer than one of a MemoryBackend that decides beside.\n")
    print("| who | Redis | decisions | added, median | p99 |")
    print("| --- | --- | --- | --- | --- |")
    names = "answers", f"is stopped, the first {_FIRST}", "is stopped, the breaker is open", "answers again"
    for who, added in measured.items():
        for name, times in zip(names, added, strict=True):
            print(
                f"| {who} | {name} | {len(times):,} | {_shown(median(times))} | {_shown(quantiles(times, n=100)[-1])} |"
            )


def _shown(us: float) -> str:
    return f"{us / 1000:.1f} ms" if us >= 1_000 else f"{us:.1f} us"


def _in_thread(server: RedisServer) -> Added:
    guarded, control = Limiter(open_backend(_url(server))), Limiter(MemoryBackend())
    try:
        return asyncio.run(_outages(server, _awaited(guarded), _awaited(control)))
    finally:
        guarded.close()


async def _in_task(server: RedisServer) -> Added:
    guarded, control = AsyncLimiter(open_async_backend(_url(server))), AsyncLimiter(MemoryBackend())

    def timed(limiter: AsyncLimiter) -> Callable[[], Awaitable[float]]:
        async def once() -> float:
            begun = time.perf_counter_ns()
            decision = await limiter.acquire("s", PLAN)
            took = time.perf_counter_ns() - begun
            await limiter.release(decision)
            return _checked(decision, took)

        return once

    try:
        return await _outages(server, timed(guarded), timed(control))
    finally:
        await guarded.aclose()


def _url(server: RedisServer) -> str:
    return f"{server.url}?budget_ms={BUDGET_MS}"


def _awaited(limiter: Limiter) -> Callable[[], Awaitable[float]]:
    async def once() -> float:
        begun = time.perf_counter_ns()
        decision = limiter.acquire("s", PLAN)
        took = time.perf_counter_ns() - begun
        limiter.release(decision)
        return _checked(decision, took)

    return once


def _checked(decision: Any, took_ns: int) -> float:
    if not decision.allowed:
        raise AssertionError("a decision was refused")
    return took_ns / 1000


async def _outages(
    server: RedisServer, guarded: Callable[[], Awaitable[float]], control: Callable[[], Awaitable[float]]
) -> Added:
    added = Added([], [], [], [])

    async def measure(calls: int, into: list[float]) -> None:
        into += [await guarded() - await control() for _ in range(calls)]

    await measure(CALLS, [])
    for _ in range(ROUNDS):
        await measure(CALLS, added.before)
        os.kill(server.pid, SIGSTOP)
        await measure(_FIRST, added.waits)
        # Until the first probe, a quarter of a second later at most.
        await measure(CALLS, added.opened)
        os.kill(server.pid, SIGCONT)
        await asyncio.sleep(LULL_S)
        await measure(1, [])
        await measure(CALLS, added.again)
    return added


if __name__ == "__main__":
    main()
