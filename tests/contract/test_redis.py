"""The Redis backend under the whole contract, on a real server."""

import pytest
from tests.redis_servers import RedisServer
from tests.selection import steps

from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.testing import BackendContract, ManualClock

pytest_plugins = ()


class TestAsyncRedisBackend(BackendContract):
    exact_steps = steps(2_000, full=4_000)

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.socket_url

    def backend(self, clock: ManualClock) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)


class TestRedisBackend(BackendContract):
    exact_steps = steps(2_000, full=4_000)

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.socket_url

    def backend(self, clock: ManualClock) -> RedisBackend:
        return RedisBackend.from_url(self.url, clock=clock, timeout_ms=5_000)
