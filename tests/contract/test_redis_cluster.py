"""The Redis backend under the whole contract, on a cluster of three servers."""

import pytest
from tests.redis_groups import Cluster

from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestAsyncRedisBackendOnCluster(BackendContract):
    exact_steps = 800

    @pytest.fixture(autouse=True)
    def _cluster(self, redis_cluster: Cluster) -> None:
        self.url = redis_cluster.url

    def backend(self, clock: ManualClock) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)


# The asynchronous twin shows that a cluster keeps the laws.
@pytest.mark.full
class TestRedisBackendOnCluster(BackendContract):
    exact_steps = 800

    @pytest.fixture(autouse=True)
    def _cluster(self, redis_cluster: Cluster) -> None:
        self.url = redis_cluster.url

    def backend(self, clock: ManualClock) -> RedisBackend:
        return RedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)
