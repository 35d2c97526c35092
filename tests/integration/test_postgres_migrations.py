"""Tables and functions that are created while others use them, or by another user."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from tests.integration.conftest import LoopLimiter
from tests.machine import eventually
from tests.postgres_servers import Postgres

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend, migration
from awx_ratelimit.backends.postgres.routing import route_to
from awx_ratelimit.backends.postgres.schema import lock_number

PLAN = Plan.of("p", per_minute=100, concurrent=10)
PLACE = "awx.limits"
BUDGET_MS, CLAIMS = 100, 6


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop(name)


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements; the rows of the last one."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def newer_version() -> Any:
    """The module of a version that has one more migration."""
    assert migration.__file__ is not None
    spec = spec_from_file_location("newer", migration.__file__)
    assert spec is not None
    assert spec.loader is not None
    newer: Any = module_from_spec(spec)
    spec.loader.exec_module(newer)
    first = newer.migration
    newer.VERSION = 2
    newer.migration = lambda place, version: first(place, 1) if version == 1 else "CREATE TABLE awx.limits_newer ()"
    return newer


def test_old_and_new_processes_migrate_at_once(url: str) -> None:
    """Each version is installed once, whoever is first, and processes of the old one decide beside the new one."""
    started = threading.Barrier(6)

    def run(migrate: Any) -> None:
        started.wait()
        migrate(url, PLACE)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, [migration.migrate, newer_version().migrate] * 3))

    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
    allowed = limiter.acquire("s", PLAN).allowed
    limiter.close()
    assert execute(url, "SELECT version FROM awx.limits_versions ORDER BY version") == [(1,), (2,)]
    assert allowed is True


def test_the_rights_that_the_error_names(url: str) -> None:
    """A user with the rights that the error of a user without them names can do everything but migrate."""
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    execute(
        url,
        "CREATE ROLE plain LOGIN",
        "GRANT USAGE ON SCHEMA awx TO plain",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA awx TO plain",
    )
    limiter = Limiter(PostgresBackend.from_url(url.replace("awx@", "plain@"), timeout_ms=10_000))

    first = limiter.acquire("s", PLAN, settle=True)
    limiter.renew_leases()
    limiter.settle(first, 0)
    limiter.release(first)
    state = limiter.health()["state"]
    held = eventually(lambda: limiter.peek("s", PLAN).held, 0)
    limiter.reset("s")

    limiter.close()
    execute(url, "DROP OWNED BY plain", "DROP ROLE plain")
    assert first.allowed is True
    assert state == "ok"
    assert held == 0


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_a_migration_that_takes_long(url: str, kind: str) -> None:
    """Claims end in time while another process migrates, and all of them wait for one thread."""
    route = route_to(url, timeout_ms=BUDGET_MS, schema="awx", prefix="limits")
    with start_blocking_portal() as portal:
        limiter: Any = Limiter(PostgresBackend(route))
        if kind == "tasks":
            limiter = LoopLimiter(portal, AsyncLimiter(AsyncPostgresBackend(route)))
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(PLACE),))
            errors = [refused(limiter) for _ in range(CLAIMS)]
            names = [thread.name for thread in threading.enumerate()]

        allowed = eventually(lambda: refused(limiter) is None, expected=True)
        limiter.close()
    assert {type(error) for error in errors} == {BackendUnavailable}
    assert names.count("awx_ratelimit migration") == 1
    assert allowed is True


def refused(limiter: Any) -> Exception | None:
    try:
        limiter.acquire("s", PLAN)
    except BackendUnavailable as error:
        return error
    return None
