"""Eight processes share two limits in one database, while they are killed, paused and restarted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.load import SECONDS
from tests.chaos.test_redis_processes import outlast_lease, weather_storm
from tests.postgres_servers import Postgres

pytestmark = pytest.mark.timeout(90 + 2 * SECONDS)


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop(name)


def test_killed_and_paused_processes_exceed_no_limit(url: str, tmp_path: Path) -> None:
    """Tokens stay within the rate bound of every interval, and slots of dead processes are freed within their ttl."""
    weather_storm(url, tmp_path, "PostgreSQL")


def test_process_paused_longer_than_its_lease(url: str) -> None:
    """After the ttl another process gets its slot, and when it continues it counts a lost lease."""
    outlast_lease(url, "PostgreSQL")
