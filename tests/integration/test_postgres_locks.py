"""Records that another program keeps locked: their claims fail in time, and no others do."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.integration.conftest import OpenLimiter
from tests.machine import eventually, timed
from tests.pgbouncer import running_pgbouncer
from tests.postgres_servers import Postgres

from awx_ratelimit import BackendUnavailable, Budget, Limiter, Plan
from awx_ratelimit.backends.postgres import PostgresBackend
from awx_ratelimit.backends.postgres.codec import Codec
from awx_ratelimit.backends.postgres.connection import Connection
from awx_ratelimit.backends.postgres.keys import Keys
from awx_ratelimit.backends.postgres.server import server_at
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend

PLAN = Plan.of("p", per_minute=1_000, per_day=10_000, concurrent=500)
OTHERS = ("a", "b", "c")
BUDGET_MS, TURNS = 600, 3
#: A limiter has three connections. This test has two, and a pooler two.
MAX_BACKENDS = 3 + 2 + 2


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database."""
    name = postgres.new_database()
    url = postgres.url(name)
    PostgresBackend.from_url(url, timeout_ms=10_000).close()
    yield url
    postgres.drop(name)


@pytest.fixture(params=["direct", "pooled"])
def limits_url(postgres: Postgres, url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The same database, directly and behind a pooler."""
    if request.param == "direct":
        yield url
    else:
        with running_pgbouncer(postgres, urlsplit(url).path[1:]) as pooled:
            yield pooled


@contextmanager
def locked(url: str, subject: str) -> Iterator[None]:
    """Lock the records of a subject."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "UPDATE awx.limits_records SET opened = opened WHERE subject = %s", (Keys().digest(subject),)
        )
        assert found.rowcount >= 1
        yield
        connection.rollback()


def backends(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone() or (0,)
        return int(count)


def acquire(limiter: Any, subject: str, also: Sequence[Budget]) -> Any:
    """The decision. The portal of a LoopLimiter passes no keywords."""
    if not hasattr(limiter, "portal"):
        return limiter.acquire(subject, PLAN, also=also)
    return limiter.portal.call(partial(limiter._limiter.acquire, subject, PLAN, also=also))


def attempted(limiter: Any, subject: str, *also: Budget) -> tuple[Any, float]:
    """The decision of some budgets, or the error, and how long it took."""
    begun_s = time.monotonic()
    try:
        return acquire(limiter, subject, also), time.monotonic() - begun_s
    except BackendUnavailable as error:
        return error, time.monotonic() - begun_s


def is_decided(limiter: Any, subject: str) -> bool:
    return not isinstance(attempted(limiter, subject)[0], Exception)


def test_a_locked_record(url: str, limits_url: str, open_limiter: OpenLimiter) -> None:
    """Its claims fail in time, and claims of others are decided in time, over few connections; later all succeed."""
    limiter = open_limiter(limits_url, timeout_ms=BUDGET_MS)
    warm = [eventually(partial(is_decided, limiter, subject), expected=True) for subject in ("locked", *OTHERS)]
    failed, decided, counts = [], [], []
    with ThreadPoolExecutor(10) as pool, locked(url, "locked"), timed() as watch:
        for _ in range(TURNS):
            subjects = ("locked", *OTHERS, "locked", *OTHERS)
            claims = [pool.submit(attempted, limiter, subject) for subject in subjects]
            claims.append(pool.submit(attempted, limiter, "a", Budget("b", PLAN, "account")))
            joint = pool.submit(attempted, limiter, "a", Budget("locked", PLAN, "account"))
            failed += [claims[0].result(), claims[4].result()]
            decided += [claim.result() for at, claim in enumerate(claims) if at not in (0, 4)] + [joint.result()]
            counts.append(backends(url))

    after = [eventually(partial(is_decided, limiter, "locked"), expected=True) for _ in range(5)]
    assert warm == [True] * 4
    assert {type(error) for error, _ in failed} == {BackendUnavailable}
    assert any("is locked by another transaction" in str(error) for error, _ in failed)
    assert [str(outcome) for outcome, _ in decided if isinstance(outcome, Exception)] == []
    assert max(seconds for _, seconds in decided + failed) < watch.limit(BUDGET_MS / 1000)
    assert max(counts) <= MAX_BACKENDS
    assert after == [True] * 5


def test_a_locked_record_is_no_outage(url: str) -> None:
    """Its claims are decided locally, and those of other subjects by the server."""
    guarded = GuardedBackend(PostgresBackend.from_url(url, timeout_ms=BUDGET_MS), budget_ms=BUDGET_MS)
    limiter = Limiter(guarded)
    limiter.acquire("locked", PLAN)
    with locked(url, "locked"):
        allowed = [limiter.acquire("locked", PLAN).allowed for _ in range(8)]
        limiter.acquire("a", PLAN)

    health = limiter.health()
    other = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
    assert allowed == [True] * 8
    assert health["outages"] == 0
    assert other.peek("a", PLAN).held == 1
    limiter.close()
    other.close()


def test_leases_and_settlements_beside_a_locked_record(url: str) -> None:
    """Other leases are renewed, those of the locked record are not lost, and its settlements can be sent again."""
    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=BUDGET_MS))
    held = [limiter.acquire(subject, PLAN, settle=True) for subject in ("locked", *OTHERS)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE awx.limits_records SET renewed_ms = 1")
    with locked(url, "locked"):
        limiter.renew_leases()
        with pytest.raises(BackendUnavailable, match="locked by another transaction"):
            limiter.settle(held[0], 0)
        limiter.settle(held[1], 0)

    with psycopg.connect(url) as connection:
        renewed = connection.execute("SELECT count(*) FROM awx.limits_records WHERE renewed_ms > 1").fetchone()
    lost = limiter.health()["lost_leases"]
    limiter.settle(held[0], 0)
    used = [usage.capacity - usage.remaining for usage in limiter.peek("locked", PLAN).usages]
    limiter.close()
    assert renewed == (3,)
    assert lost == 0
    assert used[:2] == [0, 0]


def test_several_calls_for_a_locked_record(url: str) -> None:
    """Calls that travel together wait for it once, so that those behind them are in time."""
    server, codec = server_at(url, "awx.limits", timeout_ms=BUDGET_MS), Codec("awx.limits", bytes(16))
    changes: list[Any] = [("locked", [(PLAN.rates[0], 1)])]
    connection = Connection(server)
    connection.run([codec.acquire([("locked", PLAN, 1, codec.new_lease_id())])])
    calls = [codec.joint.settle(changes, 0, codec.new_lease_id(), None, (), declared=False) for _ in range(12)]
    with locked(url, "locked"):
        *replies, last = connection.run([*calls, codec.acquire([("a", PLAN, 1, codec.new_lease_id())])])

    connection.close()
    assert [reply.record_is_locked for reply in replies] == [True] * 12
    assert isinstance(last, tuple)
