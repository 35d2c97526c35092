"""Limiters under load while PostgreSQL hangs, crashes, or fails over to its standby.

See `test_redis_outages`. AWX_CHAOS_SECONDS sets the duration.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from tests.chaos.load import SECONDS, Load, add_row, charged
from tests.chaos.test_redis_outages import (
    CAPACITY,
    HELD,
    MAX_TOKENS,
    RECOVERY_S,
    ROOMY_SUBJECTS,
    TIGHT,
    TIGHT_SUBJECTS,
    TTL_MS,
    Scene,
    outlast_hang,
)
from tests.machine import eventually
from tests.postgres_servers import Postgres, running_postgres

pytestmark = [pytest.mark.timeout(120 + 3 * SECONDS), pytest.mark.full]
Open = Callable[..., dict[str, Any]]
TABLES = ("records", "open_claims", "steps", "notes")


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of a test alone."""
    with running_postgres() as server:
        yield server


def test_postgres_hangs(server: Postgres, open_guarded: Open, open_limiters: Open) -> None:
    """No claim fails or waits beyond its budget, the limit stays bounded, and is exact again afterwards."""
    outlast_hang(Scene(server.url("postgres"), open_guarded, open_limiters), server.hanging(), "PostgreSQL")


def test_postgres_crashes(server: Postgres, open_guarded: Open, open_limiters: Open) -> None:
    """After a crash it gets the decisions of the outage and all leases, but not what was used before."""
    scene = Scene(server.url("postgres"), open_guarded, open_limiters)
    kept = [limiter.acquire("s", HELD) for limiter in scene.limiters.values() for _ in range(2)]
    with scene:
        time.sleep(SECONDS / 4)
        server.kill()
        killed_s = time.monotonic()
        time.sleep(SECONDS / 4)
        server.start()
        back_s = time.monotonic()
        held = eventually(lambda: scene.other.peek("s", HELD).held, 4, RECOVERY_S)
        held_s = time.monotonic() - back_s
        healed = scene.recovers()
    known = sum(charged(scene.other, subject) for subject in ROOMY_SUBJECTS)
    decided = sum(scene.roomy.granted(killed_s).values())
    most, owed = scene.most, [charged(scene.other, subject, TIGHT) for subject in TIGHT_SUBJECTS]
    _, granted, exact = scene.is_exact_again()

    add_row(
        "SIGKILL of PostgreSQL, which starts again",
        f"{scene.waits()}; {most} of {CAPACITY} tokens; 4 leases taken again after {held_s:.2f} s of a ttl of "
        f"{TTL_MS / 1000:g}",
        f"the lost charges, here {CAPACITY}, and the bound of an outage: at most {MAX_TOKENS + CAPACITY} tokens",
    )
    assert scene.failed == 0, scene.waits()
    assert scene.is_in_time is True, scene.waits()
    assert all(kept), scene.waits()
    assert CAPACITY < most <= MAX_TOKENS + CAPACITY, most
    assert owed == [CAPACITY] * 2, most
    assert held == 4, most
    assert healed is True, most
    assert known >= decided, (known, decided)
    assert exact == granted, (known, decided)


@pytest.mark.parametrize("is_logged", [False, True], ids=["unlogged", "logged"])
def test_failover(server: Postgres, open_limiters: Open, is_logged: bool) -> None:
    """A promoted standby gets the leases again. With logged tables and synchronous commit, it knows every charge."""
    url = server.url("postgres")
    open_limiters(url)
    if is_logged:
        for table in TABLES:
            execute(url, f"ALTER TABLE awx.limits_{table} SET LOGGED")
        execute(url, "ALTER DATABASE postgres SET synchronous_commit = on")
    with running_postgres(server) as standby:
        if is_logged:
            execute(url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            execute(url, "SELECT pg_reload_conf()")
        assert eventually(lambda: execute(url, "SELECT state FROM pg_stat_replication"), ("streaming",)) == (
            "streaming",
        )
        both = f"postgresql://awx@/postgres?host={server.folder},{standby.folder}&target_session_attrs=read-write"
        limiters = open_limiters(both, timeout_ms=1_000)
        kept = [limiter.acquire("s", HELD) for limiter in limiters.values() for _ in range(2)]
        load = Load(list(limiters.values()), ROOMY_SUBJECTS)
        with load.running():
            time.sleep(SECONDS / 4)
            begun_s = time.monotonic()
            server.kill()
            killed_s = time.monotonic()
            execute(standby.url("postgres"), "SELECT pg_promote()")
            promoted_s = time.monotonic()
            time.sleep(SECONDS / 4)
        held = eventually(lambda: attempted(limiters["threads"]), 4, RECOVERY_S)
        owed = sum(charged(limiters["threads"], subject) for subject in ROOMY_SUBJECTS)
        for limiter in limiters.values():
            limiter.close()
    server.start()

    failed = load.failed()
    granted, since = load.granted().total(), load.granted(killed_s).total()
    down_s = max((claim.ended_s for claim in failed), default=begun_s) - begun_s
    add_row(
        f"failover to a standby, {'logged tables, synchronous' if is_logged else 'as installed'}, bare",
        f"promoted after {promoted_s - killed_s:.2f} s; claims fail for {down_s:.2f} s, {len(failed):,} of "
        f"{len(load.claims):,}; {granted:,} granted, {since:,} of them since; {owed:,} charged",
        "no charge is lost; only unanswered claims may be charged as well"
        if is_logged
        else "what was used before is forgotten; leases are taken again",
    )
    assert all(kept)
    assert held == 4
    assert since > 0
    assert failed
    least = granted if is_logged else since - len(ROOMY_SUBJECTS)
    assert least <= owed <= (granted if is_logged else since) + len(failed)


def execute(url: str, statement: str) -> Any:
    """Run a statement; its first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def attempted(limiter: Any) -> int:
    """How many leases the subject has; 0 while the server is unavailable."""
    with suppress(Exception):
        return int(limiter.peek("s", HELD).held)
    return 0
