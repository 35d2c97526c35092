"""Eight processes share two limits in one database, while they are killed, paused and restarted."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.chaos.load import SECONDS
from tests.chaos.test_redis_processes import outlast_lease, weather_storm
from tests.pgbouncer import running_pgbouncer
from tests.postgres_servers import Postgres
from tests.selection import parameters

pytestmark = pytest.mark.timeout(90 + 2 * SECONDS)


LEVELS = ("read committed", "repeatable read", "serializable")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    yield name
    postgres.drop(name)


@pytest.mark.parametrize("level", parameters(LEVELS, full=LEVELS[1:]))
def test_killed_and_paused_processes_exceed_no_limit(
    postgres: Postgres, database: str, level: str, tmp_path: Path
) -> None:
    """Tokens stay within the rate bound of every interval, and slots of dead processes are freed within their ttl.

    At each default isolation level, no claim fails, and no deadlock happens.
    """
    url = postgres.url(database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'".encode())

    weather_storm(url, tmp_path, f"PostgreSQL ({level})")

    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert found.fetchone() == (0,)


@pytest.mark.full
def test_processes_behind_a_pooler(postgres: Postgres, database: str, tmp_path: Path) -> None:
    """The same holds behind PgBouncer in transaction mode, with two connections for all processes."""
    with running_pgbouncer(postgres, database) as url:
        weather_storm(url, tmp_path, "PostgreSQL behind PgBouncer")


def test_process_paused_longer_than_its_lease(postgres: Postgres, database: str) -> None:
    """After the ttl another process gets its slot, and when it continues it counts a lost lease."""
    outlast_lease(postgres.url(database), "PostgreSQL")
