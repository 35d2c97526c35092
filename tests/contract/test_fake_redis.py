"""The Redis backend on a fake server under the whole contract."""

import pytest
from tests.selection import steps

from awx_ratelimit import AsyncRedisBackend, RedisBackend
from awx_ratelimit.testing import BackendContract, ManualClock, fake_redis


class TestFakeRedis(BackendContract):
    # The scripts are those of the real server, which decides the full number of steps.
    exact_steps = steps(1_000, full=2_000)

    def backend(self, clock: ManualClock) -> RedisBackend:
        return fake_redis(clock=clock)


@pytest.mark.full
class TestAsyncFakeRedis(BackendContract):
    exact_steps = steps(1_000, full=2_000)

    def backend(self, clock: ManualClock) -> AsyncRedisBackend:
        return fake_redis(clock=clock, is_async=True)
