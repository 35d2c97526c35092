"""The PostgreSQL backend under the whole contract, on a real server."""

import pytest
from tests.postgres_servers import Postgres
from tests.selection import steps

from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.testing import BackendContract, ManualClock


class TestAsyncPostgresBackend(BackendContract):
    exact_steps = steps(1_000, full=2_000)

    @pytest.fixture(autouse=True)
    def _database(self, limits_url: str) -> None:
        self.url = limits_url

    def backend(self, clock: ManualClock) -> AsyncPostgresBackend:
        return AsyncPostgresBackend.from_url(self.url, clock=clock, timeout_ms=10_000)


@pytest.mark.full
class TestPostgresBackend(BackendContract):
    exact_steps = steps(1_000, full=2_000)

    @pytest.fixture(autouse=True)
    def _database(self, limits_url: str) -> None:
        self.url = limits_url

    def backend(self, clock: ManualClock) -> PostgresBackend:
        return PostgresBackend.from_url(self.url, clock=clock, timeout_ms=10_000)


@pytest.fixture
def limits_url(postgres: Postgres) -> str:
    """A database for limits, without any."""
    return postgres.emptied_limits()
