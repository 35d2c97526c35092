"""Each peer decides one request against 60 a minute and 10,000 a day, as its documentation shows.

A decider decides once for one key and returns whether it admitted the request. The limits are so high that nothing is
refused: only admitted requests are timed. None of the peers has slots.
"""

from collections.abc import Callable

import limits
import token_bucket
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from throttled import MemoryStore, Throttled, per_day, per_min

from awx_ratelimit import Concurrency, MemoryBackend, Plan
from awx_ratelimit import Limiter as AwxLimiter
from awx_ratelimit import Rate as AwxRate

KEY = "awx_bench_key_0123456789"
PER_MINUTE = 100_000_000
PER_DAY = 1_000_000_000
MANY = f"{PER_MINUTE}/minute"
PLAN = Plan(
    "bench",
    (AwxRate("minute", PER_MINUTE, 60_000), AwxRate("day", PER_DAY, 86_400_000, burst=PER_MINUTE)),
    Concurrency(1_000),
)
Decide = Callable[[], bool]


def awx() -> Decide:
    """Two rates and a slot, and the slot given back."""
    limiter = AwxLimiter(MemoryBackend())

    def decide() -> bool:
        decision = limiter.acquire("key", PLAN)
        limiter.release(decision)
        return decision.allowed

    return decide


def _limits(strategy: type) -> Decide:
    strategy_ = strategy(MemoryStorage())
    minute, day = limits.parse(f"{PER_MINUTE}/minute"), limits.parse(f"{PER_DAY}/day")
    return lambda: strategy_.hit(minute, "key") and strategy_.hit(day, "key")


def limits_fixed_window() -> Decide:
    """Two windows, one call each."""
    return _limits(FixedWindowRateLimiter)


def limits_sliding_window() -> Decide:
    """Two approximated windows, one call each."""
    return _limits(SlidingWindowCounterRateLimiter)


def limits_moving_window() -> Decide:
    """Two logs of timestamps, one call each; limits that fit in memory, since the logs grow with them."""
    strategy = MovingWindowRateLimiter(MemoryStorage())
    minute, day = limits.parse("1000000/minute"), limits.parse("1000000/day")
    return lambda: strategy.hit(minute, "key") and strategy.hit(day, "key")


def token_bucket_two() -> Decide:
    """Two limiters of one bucket each; no lock, no wait, no slot."""
    minute = token_bucket.Limiter(PER_MINUTE, PER_MINUTE, token_bucket.MemoryStorage())
    day = token_bucket.Limiter(PER_MINUTE, PER_MINUTE, token_bucket.MemoryStorage())
    return lambda: minute.consume("key") and day.consume("key")


def pyrate() -> Decide:
    """One bucket of two rates."""
    bucket = InMemoryBucket([Rate(1_000_000, Duration.MINUTE), Rate(2_000_000, Duration.DAY)])
    limiter = Limiter(bucket)
    return lambda: bool(limiter.try_acquire("key", blocking=False))


def throttled() -> Decide:
    """Two limiters of the generic cell rate algorithm, one call each."""
    store = MemoryStore()
    minute = Throttled(key="minute", using="gcra", quota=per_min(PER_MINUTE), store=store)
    day = Throttled(key="day", using="gcra", quota=per_day(PER_DAY), store=store)
    return lambda: not minute.limit("key").limited and not day.limit("key").limited


DECIDERS = {
    "awx_ratelimit: 2 rates and a slot": awx,
    "token-bucket x2, no lock, no slot": token_bucket_two,
    "limits fixed window x2": limits_fixed_window,
    "limits sliding window x2": limits_sliding_window,
    "limits moving window x2": limits_moving_window,
    "pyrate-limiter, 2 rates": pyrate,
    "throttled-py GCRA x2": throttled,
}
