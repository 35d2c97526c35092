"""One AsyncLimiter in many event loops, one after the other: ``python -m tests.integration.redis_many_loops URL HOW``.

HOW says how the loops end. It prints the number of admitted claims, and of its connections at the end.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import redis

from awx_ratelimit import AsyncLimiter, Plan
from awx_ratelimit.backends.open import open_async_backend
from awx_ratelimit.backends.redis.endpoint import CLIENT_NAME

LOOPS = 20
#: Options in the query of the URL.
BUDGET = "budget_ms=5000"
PLAN = Plan.of("loops", per_day=1_000, concurrent=1_000)


async def _claim() -> bool:
    decision = await limiter.acquire("s", PLAN)
    await limiter.release(decision)
    await limiter.reset("another")
    return decision.allowed


async def _claim_and_close() -> bool:
    try:
        return await _claim()
    finally:
        await limiter.aclose()


def _run(act: Callable[[], Any]) -> bool:
    return bool(asyncio.run(act()))


def _run_in_a_loop_closed_by_hand(act: Callable[[], Any]) -> bool:
    loop = asyncio.new_event_loop()
    try:
        return bool(loop.run_until_complete(act()))
    finally:
        loop.close()


def _run_on_uvloop(act: Callable[[], Any]) -> bool:
    import uvloop

    return bool(uvloop.run(act()))


HOWS: dict[str, tuple[Callable[[Any], bool], Callable[[], Any]]] = {
    "closed": (_run, _claim_and_close),
    "left open": (_run, _claim),
    "left open on uvloop": (_run_on_uvloop, _claim),
    "closed by hand": (_run_in_a_loop_closed_by_hand, _claim),
}

if __name__ == "__main__":
    url, how = sys.argv[1:]
    limiter = AsyncLimiter(open_async_backend(url))
    run, act = HOWS[how]
    admitted = sum(run(act) for _ in range(LOOPS))
    asyncio.run(_claim_and_close())
    gc.collect()
    with redis.Redis.from_url(url.replace(BUDGET, "")) as client:
        connections = sum(each["name"] == CLIENT_NAME for each in client.client_list())
    sys.stdout.write(f"{admitted} {connections}\n")
