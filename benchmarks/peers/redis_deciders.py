"""Peers decide one request against a minute and a day on Redis, as their documentation shows.

A decider decides once for one subject and returns whether it admitted the request. The limits are so high that nothing
is refused. Each peer has a `BlockingConnectionPool` with a connection per task: fewer give it no more decisions per
second, and make late callers wait far longer; the default pool has no bound. None of the peers has slots.
"""

from collections.abc import Awaitable, Callable
from functools import cache

import limits
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
from pyrate_limiter.buckets.redis_bucket import LuaScript
from redis.asyncio import BlockingConnectionPool, Redis
from redis_fastapi.ratelimit_backend import RateLimitBackend
from tests.redis_servers import RedisServer
from throttled.asyncio import RedisStore, Throttled, rate_limiter

PER_MINUTE = 100_000_000
PER_DAY = 1_000_000_000
MOST_CONNECTIONS = 100
#: How long a task may wait for a connection of its pool.
_PATIENCE_S = 20
Decide = Callable[[str], Awaitable[bool]]


def client(url: str) -> Redis:
    """redis-py as a peer has it."""
    return Redis(connection_pool=_pool(url))


def _pool(url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(url, max_connections=MOST_CONNECTIONS, timeout=_PATIENCE_S)


def limits_fixed_window(server: RedisServer) -> Decide:
    """Two windows, one call each, through redis-py."""
    url = f"async+redis+unix://{server.socket}"
    storage = RedisStorage(url, implementation="redispy", connection_pool=_pool(server.socket_url))
    strategy = FixedWindowRateLimiter(storage)
    minute, day = limits.parse(f"{PER_MINUTE}/minute"), limits.parse(f"{PER_DAY}/day")

    async def decide(subject: str) -> bool:
        return await strategy.hit(minute, subject) and await strategy.hit(day, subject)

    return decide


def throttled(server: RedisServer) -> Decide:
    """Two limiters of the generic cell rate algorithm, one call each."""
    options = {
        "CONNECTION_POOL_CLASS": "redis.asyncio.BlockingConnectionPool",
        "CONNECTION_POOL_KWARGS": {"max_connections": MOST_CONNECTIONS, "timeout": _PATIENCE_S},
    }
    store = RedisStore(server=server.socket_url, options=options)
    minute = Throttled(using="gcra", quota=rate_limiter.per_min(PER_MINUTE), store=store)
    day = Throttled(using="gcra", quota=rate_limiter.per_day(PER_MINUTE), store=store)

    async def decide(subject: str) -> bool:
        if (await minute.limit(f"minute {subject}")).limited:
            return False
        return not (await day.limit(f"day {subject}")).limited

    return decide


def fastapi_redis(server: RedisServer) -> Decide:
    """Two window counters, one call each, by the backend that its dependency calls."""
    backend = RateLimitBackend(client(server.socket_url))

    async def decide(subject: str) -> bool:
        minute = await backend.hit(subject, limit=PER_MINUTE, window=60, scope="minute")
        if not minute.allowed:
            return False
        day = await backend.hit(subject, limit=PER_DAY, window=86_400, scope="day")
        # It lets in what it could not count.
        return day.allowed and not minute.degraded and not day.degraded

    return decide


def pyrate(server: RedisServer) -> Decide:
    """A bucket of two rates and a limiter for each subject, so that no two share its lock."""
    bare = client(server.socket_url)
    with server.client() as told:
        script_sha = told.script_load(LuaScript.PUT_ITEM)
    rates = [Rate(1_000_000, Duration.MINUTE), Rate(2_000_000, Duration.DAY)]

    @cache
    def limiter(subject: str) -> Limiter:
        return Limiter(RedisBucket(rates, bare, f"pyrate {subject}", script_sha))

    async def decide(subject: str) -> bool:
        return bool(await limiter(subject).try_acquire_async(subject, blocking=False))

    return decide


DECIDERS = {
    "limits aio, fixed window x2": limits_fixed_window,
    "throttled-py, GCRA x2": throttled,
    "fastapi-redis-sdk, window counter x2": fastapi_redis,
    "pyrate-limiter, 2 rates": pyrate,
}
