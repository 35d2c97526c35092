"""What goes wrong around the PostgreSQL backend: each is one clear error, and no slot is lost."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.machine import eventually
from tests.postgres_servers import Postgres

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Budget, Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.postgres.keys import Keys
from awx_ratelimit.errors import BackendMisconfigured, ImpossibleClaim
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=100, per_day=1_000, concurrent=3)
HUGE = 2**43


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop(name)


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def database_of(url: str) -> str:
    """The name of the database."""
    return urlsplit(url).path[1:]


@pytest.mark.parametrize("name", ['a"b', "a;b", "", "A", "a" * 40, "1a", "a.b"])
def test_names_that_no_table_may_have(url: str, name: str) -> None:
    """A schema or a prefix with quotes, dots or capitals is one clear error."""
    with pytest.raises(ValueError, match="schema: expected 1 to 31 of a-z, 0-9 and _"):
        PostgresBackend.from_url(url, schema=name)
    with pytest.raises(ValueError, match="prefix: expected 1 to 31 of a-z, 0-9 and _"):
        PostgresBackend.from_url(url, prefix=name)


def test_a_name_that_is_a_keyword(url: str) -> None:
    """Reserved words are names like others, because every name is quoted."""
    limiter = Limiter(PostgresBackend.from_url(url, schema="select", prefix="table", timeout_ms=10_000))

    allowed = [limiter.acquire("s", PLAN).allowed for _ in range(4)]

    limiter.close()
    assert allowed == [True, True, True, False]


def test_functions_of_others_in_the_search_path(url: str) -> None:
    """Operators and functions that somebody has put first in the search path of a role do not change a decision."""
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    execute(
        url,
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.cardinality(anyarray) RETURNS integer LANGUAGE sql AS 'SELECT 0'",
        "CREATE FUNCTION evil.floor(double precision) RETURNS double precision LANGUAGE sql AS 'SELECT 0'",
        "CREATE FUNCTION public.array_position(bigint[], bigint) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    )
    limiter = Limiter(PostgresBackend.from_url(f"{url}&options=-csearch_path%3Devil,pg_catalog", timeout_ms=10_000))

    allowed = [limiter.acquire("s", PLAN).allowed for _ in range(4)]

    held = limiter.peek("s", PLAN).held
    limiter.close()
    assert allowed == [True, True, True, False]
    assert held == 3


def test_a_newer_version_of_the_tables(url: str) -> None:
    """Tables that a newer version has changed are left as they are, and the functions of this version still decide."""
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    execute(url, "INSERT INTO awx.limits_versions VALUES (99)")
    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))

    assert limiter.acquire("s", PLAN).allowed is True
    limiter.close()


def test_a_newer_version_without_the_functions(url: str) -> None:
    """If a newer version has dropped the functions of this one, the error says what to do."""
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    execute(
        url,
        "INSERT INTO awx.limits_versions VALUES (99)",
        "ALTER FUNCTION awx.limits_acquire_1 RENAME TO limits_acquire_99",
    )

    with pytest.raises(BackendMisconfigured, match="tables are of a newer version; upgrade awx_ratelimit"):
        PostgresBackend.from_url(url, timeout_ms=10_000)


def test_a_role_that_may_not_write(url: str) -> None:
    """A role that may read the tables and not change them is an error that says what to grant."""
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    execute(url, "CREATE ROLE reader LOGIN", "GRANT USAGE ON SCHEMA awx TO reader",
            "GRANT SELECT ON ALL TABLES IN SCHEMA awx TO reader")  # fmt: skip

    with pytest.raises(BackendMisconfigured, match="GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA awx"):
        PostgresBackend.from_url(url.replace("awx@", "reader@"), timeout_ms=10_000)
    execute(url, "DROP OWNED BY reader", "DROP ROLE reader")


def test_a_statement_timeout_of_the_server(url: str) -> None:
    """A call that the server gives up, because a record is locked for too long, is an error; then claims go on."""
    execute(url, f"ALTER DATABASE {database_of(url)} SET statement_timeout = '100ms'")
    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
    limiter.acquire("s", PLAN)
    with psycopg.connect(url) as other:
        other.execute("UPDATE awx.limits_records SET opened = opened")
        with pytest.raises(BackendUnavailable, match="statement timeout"):
            limiter.acquire("s", PLAN)

    assert limiter.acquire("s", PLAN).allowed is True
    assert eventually(lambda: limiter.peek("s", PLAN).held, 2) == 2
    limiter.close()


def test_no_connection_is_left(url: str) -> None:
    """While the server accepts no more connections, claims fail with its sentence; later they succeed."""
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    execute(url, "CREATE ROLE few LOGIN CONNECTION LIMIT 2", "GRANT ALL ON SCHEMA awx TO few",
            "GRANT ALL ON ALL TABLES IN SCHEMA awx TO few")  # fmt: skip
    as_few = url.replace("awx@", "few@")
    with psycopg.connect(as_few), psycopg.connect(as_few):
        limiter = Limiter(PostgresBackend.from_url(as_few, timeout_ms=2_000))
        with pytest.raises(BackendUnavailable, match="too many connections"):
            limiter.acquire("s", PLAN)

    allowed = eventually(lambda: attempted(limiter), expected=True)
    limiter.close()
    execute(url, f"REVOKE ALL ON DATABASE {database_of(url)} FROM few", "DROP OWNED BY few", "DROP ROLE few")
    assert allowed is True


def attempted(limiter: Limiter) -> bool:
    with suppress(BackendUnavailable):
        return limiter.acquire("s", PLAN).allowed
    return False


def test_the_largest_numbers(url: str) -> None:
    """The largest limits and costs, settled far beyond the burst, stay within the numbers of the server."""
    plan = Plan("huge", (Rate("a", HUGE, 1_000), Rate("b", 1, 2**40)), Concurrency(2**31))
    only = Plan("only", (Rate("a", HUGE, 1_000),))
    clock = ManualClock(1_700_000_000_000)
    limiter = Limiter(PostgresBackend.from_url(url, clock=clock, timeout_ms=10_000))

    first = limiter.acquire("s", plan)
    most = limiter.acquire("t", only, HUGE, settle=True)
    limiter.settle(most, HUGE)
    limiter.settle(limiter.acquire("u", only, 1, settle=True), 2**53)
    after = limiter.acquire("u", only)
    clock.advance(10**12)

    assert first.allowed is True
    assert most.allowed is True
    assert after.allowed is False
    assert limiter.acquire("u", only).allowed is True
    limiter.close()


@pytest.mark.parametrize("cost", [0.5, float("nan"), float("inf"), "1", True, -1, 2**70])
def test_costs_that_are_none(url: str, cost: object) -> None:
    """Such a cost is an error of the caller, and leaves the batch and the record as they were."""
    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))

    with pytest.raises((TypeError, ValueError, ImpossibleClaim)):
        limiter.acquire("s", PLAN, cost)  # type: ignore[arg-type]

    assert limiter.peek("s", PLAN).held == 0
    limiter.close()


def test_cancelled_calls_lose_no_slot(url: str) -> None:
    """Tasks that are cancelled at any moment of a call leave no slot taken, alone, jointly and in batches."""
    plan = Plan.of("wide", per_day=100_000, concurrent=1_000)

    async def cancelled() -> tuple[int, int]:
        limiter = AsyncLimiter(AsyncPostgresBackend.from_url(url, timeout_ms=10_000))
        await limiter.acquire("warm", plan)
        for turn in range(60):
            also = [Budget("all", plan, "s")] if turn % 3 == 0 else []
            tasks = [asyncio.ensure_future(limiter.acquire("s", plan, also=also)) for _ in range(1 + turn % 4)]
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            if turn % 2:
                await asyncio.sleep(0.000_3 * (turn % 11))
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(outcome, BaseException):
                    await limiter.release(outcome)
        held = [1, 1]
        for _ in range(200):
            held = [(await limiter.peek("s", plan)).held, (await limiter.peek("all", plan, scope="s")).held]
            if held == [0, 0]:
                break
            await asyncio.sleep(0.02)
        await limiter.aclose()
        return held[0], held[1]

    assert asyncio.run(cancelled()) == (0, 0)


def test_clocks_that_are_set_back(url: str) -> None:
    """After the server's clock was set back by days, claims, releases and settlements go on, and slots are freed."""
    clock = ManualClock(1_700_000_000_000)
    limiter = Limiter(PostgresBackend.from_url(url, clock=clock, timeout_ms=10_000))
    plan = Plan.of("p", per_minute=10, per_day=1_000, concurrent=5)
    before = [limiter.acquire("s", plan, settle=True) for _ in range(4)]
    clock.advance(-3 * 86_400_000)

    during = [limiter.acquire("s", plan, settle=True) for _ in range(3)]
    for decision in (*before, *during):
        limiter.release(decision)
        limiter.settle(decision, 0)
    after = limiter.peek("s", plan)
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT leases, levels FROM awx.limits_records WHERE subject = %s", (Keys().digest("s"),)
        ).fetchone()
    limiter.close()

    assert [decision.allowed for decision in during] == [True, False, False]
    assert after.held == 0
    assert found is not None
    assert min(found[1]) >= 0
