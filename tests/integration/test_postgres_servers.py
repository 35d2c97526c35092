"""Databases in operation: URLs, migrations, users, outages, restarts, transactions, and poolers."""

import asyncio
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import psycopg
import pytest
from benchmarks.bench_postgres_bloat import claim
from tests.postgres_servers import Postgres, running_postgres
from tests.selection import parameters

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Budget, Limiter, Plan
from awx_ratelimit.backends.open import open_async_backend, open_backend
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.errors import BackendMisconfigured
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=2)
NEW = Plan.of("new", per_minute=100_000, per_day=1_000_000, concurrent=50_000)
BUSY = Plan.of("busy", per_minute=100_000, per_month=1_000_000, concurrent=50_000)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    yield name
    postgres.drop(name)


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("opened", [open_backend, open_async_backend])
def test_a_url_opens_a_guarded_backend(postgres: Postgres, opened: object) -> None:
    """`postgresql://` opens a backend that decides, with its own schema and prefix, behind a guard."""
    url = f"{postgres.url(postgres.new_database())}&schema=mine&prefix=p&budget_ms=5000&on_outage=closed"

    async def decided() -> list[bool]:
        limiter = AsyncLimiter(open_async_backend(url))
        allowed = [(await limiter.acquire("s", PLAN)).allowed for _ in range(3)]
        await limiter.aclose()
        return allowed

    if opened is open_async_backend:
        allowed = asyncio.run(decided())
    else:
        limiter = Limiter(open_backend(url))
        allowed = [limiter.acquire("s", PLAN).allowed for _ in range(3)]
        limiter.close()
    assert allowed == [True, True, False]


@pytest.mark.parametrize("level", ["read committed", "serializable"])
def test_processes_migrate_at_the_same_time(postgres: Postgres, database: str, level: str) -> None:
    """Many processes that start together on an empty database create its tables once, and all decide."""
    rows(postgres.url(database), f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
    started = threading.Barrier(8)

    def decide(_: int) -> bool:
        started.wait()
        backend = PostgresBackend.from_url(postgres.url(database), timeout_ms=10_000)
        allowed = backend.acquire("s", BUSY, 1).allowed
        backend.close()
        return allowed

    with ThreadPoolExecutor(8) as pool:
        allowed = list(pool.map(decide, range(8)))

    assert allowed == [True] * 8
    assert rows(postgres.url(database), "SELECT version FROM awx.limits_versions") == [(1,)]


def test_tables_that_are_dropped_come_back(postgres: Postgres, database: str) -> None:
    """A backend creates its tables again if somebody drops the schema while it runs."""
    backend = PostgresBackend.from_url(postgres.url(database), timeout_ms=10_000)
    backend.acquire("s", PLAN, 1)
    rows(postgres.url(database), "DROP SCHEMA awx CASCADE")

    assert backend.acquire("s", PLAN, 1).allowed is True
    backend.close()


def test_a_user_without_rights(postgres: Postgres, database: str) -> None:
    """A user who may not create tables is an error that says what to allow."""
    rows(postgres.url(database), "CREATE ROLE eve LOGIN")
    url = postgres.url(database).replace("awx@", "eve@")

    with pytest.raises(BackendMisconfigured, match="allow its user to create a schema: GRANT CREATE ON DATABASE"):
        PostgresBackend.from_url(url, timeout_ms=10_000)
    rows(postgres.url(database), "DROP ROLE eve")


def test_a_database_that_does_not_exist(postgres: Postgres) -> None:
    """A wrong name of the database is an error when the backend is made."""
    with pytest.raises(BackendMisconfigured, match="create"):
        PostgresBackend.from_url(postgres.url("nowhere"), timeout_ms=10_000)


def test_an_idle_connection_that_was_closed(postgres: Postgres, database: str) -> None:
    """A decision after the server has closed an idle connection opens a new one, and succeeds."""
    backend = PostgresBackend.from_url(postgres.url(database), timeout_ms=10_000)
    backend.acquire("s", PLAN, 1)
    # It returns when the connection has ended.
    kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'awx-ratelimit'"
    assert (True,) in rows(postgres.url(database), f"{kill} AND datname = current_database()")

    assert backend.acquire("s", PLAN, 1).allowed is True
    backend.close()


class PollOfThread:
    """Like gevent's: it works only in the thread that has made it."""

    def __init__(self) -> None:
        self._poll, self._thread = _poll(), threading.get_ident()

    def register(self, *arguments: int) -> None:
        self._poll.register(*arguments)

    def poll(self, *arguments: float) -> list[tuple[int, int]]:
        assert threading.get_ident() == self._thread
        return self._poll.poll(*arguments)


_poll = select.poll


def test_threads_that_share_a_connection(postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If gevent has replaced `select.poll`, a thread does not wait with what another thread has made."""
    monkeypatch.setattr(select, "poll", PollOfThread)
    backend = PostgresBackend.from_url(postgres.url(database), timeout_ms=10_000)
    allowed = [backend.acquire("s", BUSY, 1).allowed]
    with ThreadPoolExecutor(1) as pool:
        allowed += [pool.submit(backend.acquire, "s", BUSY, 1).result().allowed for _ in range(2)]

    backend.close()
    assert allowed == [True] * 3


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_strict_isolation_level(postgres: Postgres, database: str, level: str) -> None:
    """If transactions are serializable by default, no failure reaches a caller, and nothing is charged twice."""
    rows(postgres.url(database), f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
    backends = [PostgresBackend.from_url(postgres.url(database), timeout_ms=20_000) for _ in range(4)]

    def decide(backend: PostgresBackend) -> list[bool]:
        return [backend.acquire("s", BUSY, 1).allowed for _ in range(25)]

    with ThreadPoolExecutor(4) as pool:
        allowed = [each for some in pool.map(decide, backends) for each in some]

    used = backends[0].peek("s", BUSY, 1).usages[1]
    assert allowed == [True] * 100
    assert used.capacity - used.remaining == 100
    for backend in backends:
        backend.close()


def test_batches_in_opposite_orders_do_not_deadlock(postgres: Postgres, database: str) -> None:
    """Claims of the same budgets in every order, from many connections, never deadlock, and all are charged."""
    names = [f"s{number}" for number in range(6)]
    backends = [PostgresBackend.from_url(postgres.url(database), timeout_ms=20_000) for _ in range(6)]

    def decide(number: int) -> int:
        limiter, allowed = Limiter(backends[number]), 0
        for turn in range(30):
            chosen = names[turn % 6 :] + names[: turn % 6]
            chosen = chosen[::-1] if number % 2 else chosen
            also = [Budget(name, BUSY, f"scope{at}") for at, name in enumerate(chosen[1:])]
            allowed += limiter.acquire(chosen[0], BUSY, also=also).allowed
        return allowed

    with ThreadPoolExecutor(6) as pool:
        allowed = sum(pool.map(decide, range(6)))

    (deadlocks,) = rows(
        postgres.url(database), "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert allowed == 180
    assert deadlocks == (0,)
    for backend in backends:
        backend.close()


def test_batches_of_new_subjects_do_not_deadlock(postgres: Postgres, database: str) -> None:
    """Batches that create the same records at the same time, in every order and jointly too, never deadlock."""
    names, url = [f"s{number}" for number in range(40)], postgres.url(database)
    PostgresBackend.from_url(url).close()

    def decided(seed: int) -> int:
        async def decide() -> int:
            limiter, draw = AsyncLimiter(AsyncPostgresBackend.from_url(url, timeout_ms=20_000)), Random(seed)
            allowed = 0
            for turn in range(3):
                chosen = draw.sample(names, len(names))
                plain = [limiter.acquire(f"{name} {turn}", NEW) for name in chosen]
                joint = [limiter.acquire(f"{name} {turn}", NEW, also=[Budget("all", NEW, "s")]) for name in chosen[:3]]
                decisions = await asyncio.gather(*plain, *joint)
                allowed += sum(decision.allowed for decision in decisions)
            await limiter.aclose()
            return allowed

        return asyncio.run(decide())

    with ThreadPoolExecutor(4) as pool:
        allowed = sum(pool.map(decided, range(4)))

    (deadlocks,) = rows(url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert allowed == 4 * 3 * 43
    assert deadlocks == (0,)


def test_a_hanging_server(database: str, postgres: Postgres) -> None:
    """While the server is stopped, a decision fails within its time; afterwards the next one succeeds."""
    backend = PostgresBackend.from_url(postgres.url(database), timeout_ms=200)
    backend.acquire("s", BUSY, 1)
    with postgres.hanging():
        begun_s = time.monotonic()
        with pytest.raises(BackendUnavailable, match="did not answer within 200 ms"):
            backend.acquire("s", BUSY, 1)
        with pytest.raises(BackendUnavailable):
            backend.acquire("s", BUSY, 1)
        took_s = time.monotonic() - begun_s

    until_s = time.monotonic() + 10
    allowed = None
    while allowed is None:
        try:
            allowed = backend.acquire("s", BUSY, 1).allowed
        except BackendUnavailable:
            assert time.monotonic() < until_s
    backend.close()
    assert allowed is True
    assert took_s < 5


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_hanging_server_and_tasks(database: str, postgres: Postgres) -> None:
    """While the server is stopped, every task fails within its time, and no task waits for two calls."""
    backend = AsyncPostgresBackend.from_url(postgres.url(database), timeout_ms=300)
    await asyncio.wait_for(_until_decided(backend), 10)
    with postgres.hanging():
        begun_s = time.monotonic()
        outcomes = await asyncio.gather(*[backend.acquire("s", BUSY, 1) for _ in range(50)], return_exceptions=True)
        took_s = time.monotonic() - begun_s

    await asyncio.wait_for(_until_decided(backend), 10)
    await backend.close()
    assert {type(outcome) for outcome in outcomes} == {BackendUnavailable}
    assert took_s < 5


async def _until_decided(backend: AsyncPostgresBackend) -> None:
    while True:
        try:
            await backend.acquire("s", BUSY, 1)
        except BackendUnavailable:
            await asyncio.sleep(0.01)
        else:
            return


def test_limits_survive_a_restart() -> None:
    """After an orderly restart of the server, what was used is still known."""
    with running_postgres() as server:
        backend = PostgresBackend.from_url(server.url("postgres"), timeout_ms=10_000)
        for _ in range(2):
            backend.acquire("s", PLAN, 1)
        server.stop()
        server.start()

        assert backend.acquire("s", PLAN, 1).allowed is False
        backend.close()


def test_a_read_only_server(postgres: Postgres, database: str) -> None:
    """A server that has become a standby is an error that says what to do, until it is a primary again."""
    url = postgres.url(database)
    backend = PostgresBackend.from_url(url, timeout_ms=10_000)
    backend.acquire("s", PLAN, 1)
    rows(url, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    rows(url, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'awx-ratelimit'")

    with pytest.raises(BackendMisconfigured, match="target_session_attrs=read-write"):
        backend.acquire("s", PLAN, 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only".encode())

    assert backend.acquire("s", PLAN, 1).allowed is True
    assert backend.acquire("s", PLAN, 1).allowed is False
    backend.close()


@pytest.mark.full
def test_a_failover_to_another_server() -> None:
    """If the URL names two servers and the first ends, the second decides, and gets the open leases."""
    plan = Plan.of("p", per_minute=2, concurrent=3)
    with running_postgres() as first, running_postgres() as second:
        url = f"postgresql://awx@/postgres?host={first.folder},{second.folder}&target_session_attrs=read-write"
        limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
        held = [limiter.acquire("s", plan) for _ in range(3)]
        first.stop()

        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            with suppress(BackendUnavailable):
                limiter.renew_leases()
                break
        taken = limiter.peek("s", plan).held
        allowed = limiter.acquire("s", plan).allowed
        limiter.close()
        first.start()

    assert [decision.allowed for decision in held] == [True, True, False]
    assert taken == 2
    assert allowed is True


def test_records_that_are_over_are_swept(postgres: Postgres) -> None:
    """New subjects sweep old ones, so that the table stays small."""
    url, clock = postgres.emptied_limits(), ManualClock(1_700_000_000_000)
    backend = PostgresBackend.from_url(url, clock=clock, timeout_ms=10_000)
    for number in range(600):
        backend.acquire(f"s{number}", PLAN, 1)
        clock.advance(10_000)

    ((count,),) = rows(url, "SELECT count(*) FROM awx.limits_records")
    backend.close()
    assert isinstance(count, int)
    assert count < 300


def test_forks_and_exits(postgres: Postgres) -> None:
    """A child decides over a connection of its own, and processes that end release their slots."""
    url = postgres.emptied_limits()
    command = [sys.executable, "-m", "tests.integration.postgres_exits", url]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=60, check=False)
    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
    held = limiter.peek("s", Plan.of("exits", per_day=100, concurrent=3)).held
    limiter.close()

    assert ended.stdout.split() == [b"child", b"True", b"parent", b"True"], ended.stderr
    assert ended.stderr == b""
    assert held == 0


@pytest.mark.parametrize("claims", parameters([2_000, 100_000], full=["100000"]))
def test_a_hot_subject_does_not_grow_the_table(postgres: Postgres, database: str, claims: int) -> None:
    """Many charges of one subject reuse the room of a few pages."""
    url = postgres.url(database)
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    with psycopg.connect(url, autocommit=True) as connection:
        claim(connection, claims)

    ((size,),) = rows(url, "SELECT pg_relation_size('awx.limits_records')")
    assert isinstance(size, int)
    assert size < 100_000


def test_releases_are_sent_in_the_end(postgres: Postgres) -> None:
    """`close` releases every lease."""
    url, plan = postgres.emptied_limits(), Plan.of("one", concurrent=1)
    first, second = [PostgresBackend.from_url(url, timeout_ms=10_000) for _ in range(2)]
    held = first.acquire("s", plan, 1)
    refused = second.acquire("s", plan, 1)
    first.close()

    assert held.allowed is True
    assert refused.allowed is False
    assert second.acquire("s", plan, 1).allowed is True
    second.close()
