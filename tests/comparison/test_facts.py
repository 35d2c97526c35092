"""What docs/comparison.md says of single libraries, without an experiment for all."""

import asyncio
from pathlib import Path
from types import ModuleType

import limits
import pyrate_limiter
from django_ratelimit.checks import check_caches
from fakeredis import FakeAsyncRedis, FakeServer
from limits.storage import MemoryStorage
from limits.strategies import STRATEGIES, MovingWindowRateLimiter
from pyrate_limiter import Duration
from pyrate_limiter.limiter_factory import create_sqlite_limiter
from ratelimit import Rule
from ratelimit.backends.redis import RedisBackend
from tests.comparison.subject import standing_clock
from tests.migration.running import django
from throttled import MemoryStore, RateLimiterType, Throttled, per_min

from awx_ratelimit import Limiter as AwxLimiter
from awx_ratelimit import MemoryBackend, Plan
from awx_ratelimit import Rate as AwxRate
from awx_ratelimit.testing import ManualClock


def test_moving_window() -> None:
    """With limits' moving window, 5 a minute admits 5 around the end of a window."""
    strategy, limit = MovingWindowRateLimiter(MemoryStorage()), limits.parse("5/minute")
    with standing_clock("limits.storage.memory.time", "limits.strategies.time") as clock:
        admitted = int(strategy.hit(limit))
        clock.advance(59_000)
        admitted += sum(strategy.hit(limit) for _ in range(4))
        clock.advance(500)
        admitted += sum(strategy.hit(limit) for _ in range(5))

    assert admitted == 5


def test_sliding_window() -> None:
    """With throttled-py's sliding window, 5 a minute admits 5 around the end of a window."""
    throttled = Throttled(using="sliding_window", quota=per_min(5), store=MemoryStore())
    with standing_clock("throttled.utils.time") as clock:
        admitted = int(not throttled.limit("caller").limited)
        clock.advance(59_000)
        admitted += sum(not throttled.limit("caller").limited for _ in range(4))
        clock.advance(500)
        admitted += sum(not throttled.limit("caller").limited for _ in range(5))

    assert admitted == 5


def test_small_burst() -> None:
    """Here 5 a minute with a burst of 1 admits 5 in a busy minute."""
    clock = ManualClock()
    limiter = AwxLimiter(MemoryBackend(clock=clock))
    plan = Plan("strict", (AwxRate("minute", 5, 60_000, burst=1),))
    admitted = 0
    for _ in range(60):
        admitted += limiter.acquire("caller", plan).allowed
        clock.advance(1_000)

    assert admitted == 5


def test_month_of_limits() -> None:
    """A month of limits is 30 days."""
    assert limits.parse("1/month").get_expiry() == 30 * 86_400


def test_month_of_asgi_ratelimit() -> None:
    """A month of asgi-ratelimit is 31 days."""
    assert Rule(month=1).ruleset("/", "caller") == {"/:*:caller:month": (1, 31 * 86_400)}


def test_retry_after_of_asgi_ratelimit() -> None:
    """On Redis, asgi-ratelimit says a whole minute, 40 seconds before the next request is admitted."""
    rule = Rule(minute=1)

    async def waits() -> list[int]:
        async with FakeAsyncRedis(server=FakeServer()) as redis:
            backend = RedisBackend(redis)
            first = await backend.retry_after("/", "caller", rule)
            clock.advance(20_000)
            second = await backend.retry_after("/", "caller", rule)
            clock.advance(40_001)
            return [first, second, await backend.retry_after("/", "caller", rule)]

    with standing_clock("fakeredis._socket._base.time") as clock:
        assert asyncio.run(waits()) == [0, 60, 0]


def test_longest_duration() -> None:
    """The longest duration of pyrate-limiter that has a name is a week."""
    assert max(each.value for each in Duration) == 7 * 86_400 * 1_000


def test_strategies_of_limits() -> None:
    """Limits has three strategies."""
    assert sorted(STRATEGIES) == ["fixed-window", "moving-window", "sliding-window-counter"]


def test_strategies_of_throttled() -> None:
    """throttled-py has five strategies."""
    assert sorted(each.value for each in RateLimiterType) == [
        "fixed_window",
        "gcra",
        "leaking_bucket",
        "sliding_window",
        "token_bucket",
    ]


def test_storages_of_limits() -> None:
    """Every storage of limits but memory is on a server."""
    schemes = set(vars(limits.storage)["SCHEMES"])
    kinds = {scheme.removeprefix("async+").partition("+")[0] for scheme in schemes}

    assert kinds == {"memory", "memcached", "mongodb", "redis", "rediss", "valkey", "valkeys"}
    assert {"redis+cluster", "redis+sentinel"} <= schemes


def test_buckets_of_pyrate() -> None:
    """pyrate-limiter has five kinds of buckets."""
    names = ("InMemoryBucket", "MultiprocessBucket", "SQLiteBucket", "RedisBucket", "PostgresBucket")

    assert [name for name in names if not hasattr(pyrate_limiter, name)] == []


def test_sqlite_of_pyrate(tmp_path: Path) -> None:
    """Two limiters of pyrate-limiter on one file share their limit."""
    path = str(tmp_path / "limits.sqlite")
    both = [create_sqlite_limiter(5, Duration.HOUR, db_path=path) for _ in "ab"]
    admitted = sum(bool(both[number % 2].try_acquire("caller", blocking=False)) for number in range(8))
    for limiter in both:
        limiter.close()

    assert admitted == 5


def test_caches_of_django_ratelimit() -> None:
    """The check of django-ratelimit refuses the caches of Django that need no server."""
    for name in ("locmem.LocMemCache", "filebased.FileBasedCache", "db.DatabaseCache"):
        project = ModuleType("project")
        vars(project)["CACHES"] = {"default": {"BACKEND": f"django.core.cache.backends.{name}"}}
        with django(project):
            assert "django_ratelimit.E003" in [each.id for each in check_caches(None)]
