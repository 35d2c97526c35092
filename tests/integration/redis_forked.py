"""A process that has used a backend and forks: ``python -m tests.integration.redis_forked URL KIND``.

It prints the results of its children and its own as JSON.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.processes import FORKS

from awx_ratelimit import AsyncLimiter, Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend

AGE = Rate("age", 1_000, 31_536_000_000_000, refill="calendar")
PLAN = Plan("forks", (AGE,), Concurrency(6, ttl_ms=1_000))
EACH = 300


def in_child(act: Callable[[], Any]) -> Callable[[], Any]:
    """Call it in a child at the same time; the returned function waits for its result."""
    reading, writing = os.pipe()
    if FORKS[sys.argv[2]]() == 0:
        os.close(reading)
        try:
            os.write(writing, json.dumps(act()).encode())
        finally:
            gc.collect()
            os._exit(0)
    os.close(writing)

    def result() -> Any:
        with os.fdopen(reading, "rb") as answer:
            text = answer.read()
        os.wait()
        return json.loads(text)

    return result


def in_grandchild(act: Callable[[], Any]) -> Callable[[], Any]:
    """Call it in a child of a child."""

    def child() -> Any:
        return in_child(act)()

    return in_child(child)


def taken(limiter: Limiter) -> int:
    """Take all slots that are free, and return their number."""
    kept = []
    while (decision := limiter.acquire("s", PLAN)).allowed:
        kept.append(decision)
    return len(kept)


def leases(url: str) -> dict[str, Any]:
    """The parent has two of six slots. A child takes the others, tries to release the parent's, and ends."""
    limiter = Limiter(RedisBackend.from_url(url, timeout_ms=5_000))
    kept = [limiter.acquire("s", PLAN) for _ in range(2)]

    def child() -> Any:
        free = taken(limiter)
        for decision in kept:
            limiter.release(decision)
            limiter.refund(decision)
        limiter.renew_leases()
        seen = limiter.peek("s", PLAN)
        limiter.close()
        return free, seen.held, seen.usages[0].capacity - seen.usages[0].remaining

    in_the_child = in_child(child)()
    until_s = time.monotonic() + 5
    while (held := limiter.peek("s", PLAN).held) > 2 and time.monotonic() < until_s:
        time.sleep(0.01)
    limiter.renew_leases()
    after = limiter.peek("s", PLAN).held
    for decision in kept:
        limiter.release(decision)
    return {
        "child": in_the_child,
        "left": (held, after, limiter.acquire("s", PLAN).held),
        "lost": limiter.health()["lost_leases"],
    }


def limits(url: str) -> dict[str, Any]:
    """The parent and four children, one of them a grandchild, take tokens at the same time."""
    limiter = Limiter(RedisBackend.from_url(url, timeout_ms=5_000))
    plan = Plan("limits", (AGE,))

    def take() -> int:
        return sum(limiter.acquire("t", plan).allowed for _ in range(EACH))

    children = [in_child(take) for _ in range(3)]
    children.append(in_grandchild(take))
    own = take()
    return {"admitted": own + sum(child() for child in children), "own": own}


def loops(url: str) -> Any:
    """The parent forks within its event loop; the child drops everything that it can, and ends."""

    async def parent() -> Any:
        limiter = AsyncLimiter(AsyncRedisBackend.from_url(url, timeout_ms=2_000))
        await limiter.acquire("u", PLAN)
        in_grandchild(gc.collect)()
        began_s = time.monotonic()
        decision = await limiter.acquire("u", PLAN)
        took_s = time.monotonic() - began_s
        await limiter.aclose()
        return {"held": decision.held, "in_time": took_s < 1}

    return asyncio.run(parent())


if __name__ == "__main__":
    json.dump({act.__name__: act(sys.argv[1]) for act in (leases, limits, loops)}, sys.stdout)
