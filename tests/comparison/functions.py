"""Libraries that limit functions, as subjects."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from pyrate_limiter import InMemoryBucket, RateItem
from pyrate_limiter import Limiter as PyrateLimiter
from pyrate_limiter import Rate as PyrateRate
from tests.comparison.subject import Limit, Subject, answer, standing_clock
from tests.migration.sites import Answer
from throttled import MemoryStore, Throttled, per_duration


@contextmanager
def limits(*limits: Limit) -> Iterator[Subject]:
    """Fixed windows, one call for each, in the given order."""
    strategy = FixedWindowRateLimiter(MemoryStorage())
    items = [RateLimitItemPerSecond(amount, seconds) for amount, seconds in limits]

    def ask(cost: int) -> Answer:
        for item in items:
            if not strategy.hit(item, "caller", cost=cost):
                wait = strategy.get_window_stats(item, "caller").reset_time - clock.now_ms() / 1_000
                return answer(wait)
        return answer(None)

    with standing_clock("limits.storage.memory.time", "limits.strategies.time") as clock:
        yield Subject(ask, clock)


@contextmanager
def throttled(*limits: Limit) -> Iterator[Subject]:
    """Token buckets, its default, one call for each limit, in the given order."""
    store = MemoryStore()
    quotas = [per_duration(timedelta(seconds=seconds), amount) for amount, seconds in limits]
    each = [Throttled(key=str(number), quota=quota, store=store) for number, quota in enumerate(quotas)]

    def ask(cost: int) -> Answer:
        for one in each:
            result = one.limit(cost=cost)
            if result.limited:
                return answer(result.state.retry_after)
        return answer(None)

    with standing_clock("throttled.utils.time") as clock:
        yield Subject(ask, clock)


@contextmanager
def pyrate(*limits: Limit) -> Iterator[Subject]:
    """One bucket of all rates."""
    bucket, limiter = pyrate_limiter_of(limits)

    def ask(cost: int) -> Answer:
        if limiter.try_acquire("caller", cost, blocking=False):
            return answer(None)
        wait_ms = bucket.waiting(RateItem("caller", bucket.now(), weight=cost))
        return answer(wait_ms / 1_000)

    with standing_clock("pyrate_limiter.clocks.monotonic_ns") as clock:
        yield Subject(ask, clock)


def pyrate_limiter_of(limits: tuple[Limit, ...]) -> tuple[Any, PyrateLimiter]:
    """A bucket of all rates and its limiter, without the thread that removes old entries."""
    bucket = InMemoryBucket([PyrateRate(amount, s * 1_000) for amount, s in sorted(limits, key=lambda each: each[1])])
    limiter = PyrateLimiter(bucket)
    limiter.dispose(bucket)
    return bucket, limiter
