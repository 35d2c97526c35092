"""The whole contract on Valkey: one server for tasks, a cluster for threads."""

from collections.abc import Iterator

import pytest
from tests.redis_groups import VALKEY, Cluster, emptied, running_cluster
from tests.redis_servers import RedisServer, running_redis

from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.testing import BackendContract, ManualClock

# It runs the same scripts through the same client as Redis.
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of Valkey."""
    with running_redis(tmp_path_factory.mktemp("valkey"), binary=VALKEY) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of Valkey."""
    with running_cluster(tmp_path_factory.mktemp("valkey"), binary=VALKEY) as cluster:
        yield cluster


class TestAsyncRedisBackendOnValkey(BackendContract):
    exact_steps = 800

    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        emptied([server])
        self.url = server.url.replace("redis", "valkey", 1)

    def backend(self, clock: ManualClock) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)


class TestRedisBackendOnValkey(BackendContract):
    exact_steps = 800

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Cluster) -> None:
        emptied(cluster.primaries)
        self.url = cluster.url.replace("redis", "valkey", 1)

    def backend(self, clock: ManualClock) -> RedisBackend:
        return RedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)
