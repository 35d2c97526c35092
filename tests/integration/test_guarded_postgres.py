"""The guard over a real PostgreSQL that hangs or crashes."""

import time
from collections.abc import Iterator

import pytest
from tests.machine import eventually, timed
from tests.postgres_servers import Postgres, running_postgres

from awx_ratelimit import Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.postgres import PostgresBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend

BUDGET_MS = 100
PLAN = Plan("p", (Rate("month", 100, period="month"), Rate("hour", 80, 3_600_000, refill="calendar")), Concurrency(10))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of these tests alone."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def url(server: Postgres) -> Iterator[str]:
    name = server.new_database()
    yield server.url(name)
    server.drop(name)


def used(limiter: Limiter) -> list[int]:
    return [usage.capacity - usage.remaining for usage in limiter.peek("s", PLAN).usages]


def test_an_outage_is_reconciled(server: Postgres, url: str) -> None:
    """While the server hangs, claims are decided locally within the budget; later it knows what they charged.

    No more slots are needed than a local budget has: if the machine is late, the claims before are local, too.
    """
    backend = PostgresBackend.from_url(url, timeout_ms=BUDGET_MS)
    limiter = Limiter(GuardedBackend(backend, expected_workers=2, budget_ms=BUDGET_MS))
    other = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
    before = [limiter.acquire("s", PLAN) for _ in range(3)]
    with server.hanging(), timed() as watch:
        during = [limiter.acquire("s", PLAN) for _ in range(2)]

    answered = eventually(lambda: limiter.acquire("t", PLAN).plan is PLAN, expected=True)
    held = eventually(lambda: used(other)[2], 5)

    # A claim that was sent to a server that hangs may have been charged there as well.
    assert answered is True
    assert [decision.allowed for decision in (*before, *during)] == [True] * 5
    assert held == 5
    assert 5 <= used(other)[0] <= 5 + len(during)
    assert watch.seconds < watch.limit(2 * BUDGET_MS / 1000 + 0.5)
    limiter.close()
    other.close()


def test_leases_come_back_after_a_crash(server: Postgres, url: str) -> None:
    """A crash of the server loses debts and leases. A renewal enters the leases again."""
    limiter = Limiter(PostgresBackend.from_url(url, timeout_ms=10_000))
    held = [limiter.acquire("s", PLAN) for _ in range(3)]
    server.crash()

    until_s = time.monotonic() + 20
    while used(limiter)[2] != 3 and time.monotonic() < until_s:
        limiter.renew_leases()

    assert used(limiter) == [0, 0, 3]
    assert limiter.health()["lost_leases"] == 0
    for decision in held:
        limiter.release(decision)
    assert eventually(lambda: used(limiter)[2], 0) == 0
    limiter.close()
