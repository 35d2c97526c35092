"""The Redis backend under the whole contract, on a primary that sentinels watch."""

import pytest
from tests.redis_groups import Service

from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.testing import BackendContract, ManualClock


# The synchronous twin shows that a service keeps the laws.
@pytest.mark.full
class TestAsyncRedisBackendOnSentinel(BackendContract):
    exact_steps = 800

    @pytest.fixture(autouse=True)
    def _service(self, redis_service: Service) -> None:
        self.url = redis_service.url

    def backend(self, clock: ManualClock) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)


class TestRedisBackendOnSentinel(BackendContract):
    exact_steps = 800

    @pytest.fixture(autouse=True)
    def _service(self, redis_service: Service) -> None:
        self.url = redis_service.url

    def backend(self, clock: ManualClock) -> RedisBackend:
        return RedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)
