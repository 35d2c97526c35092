"""A pooler in transaction mode: each call may run on another connection."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.machine import eventually
from tests.pgbouncer import running_pgbouncer
from tests.postgres_servers import Postgres

from awx_ratelimit import AsyncLimiter, Budget, Decision, Limiter, Plan
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.postgres.routing import route_to

PLAN = Plan.of("p", per_minute=1_000, per_month=100_000, concurrent=400)


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A new database behind PgBouncer, with two connections."""
    name = postgres.new_database()
    with running_pgbouncer(postgres, name) as pooled:
        yield pooled
    postgres.drop(name)


def in_use(limiter: Limiter) -> list[int]:
    """What is used of the month, and the slots."""
    return [usage.capacity - usage.remaining for usage in limiter.peek("s", PLAN).usages][1:]


def test_threads_and_tasks_behind_a_pooler(url: str) -> None:
    """Tables are created through the pooler, and threads and tasks share exact limits and slots."""
    limiters = [Limiter(PostgresBackend.from_url(url, timeout_ms=20_000)) for _ in range(4)]

    def decide(limiter: Limiter) -> list[Decision]:
        return [limiter.acquire("s", PLAN, also=[Budget("a", PLAN, "account")], settle=True) for _ in range(40)]

    async def decided() -> list[bool]:
        limiter = AsyncLimiter(AsyncPostgresBackend.from_url(url, timeout_ms=20_000))
        decisions = await asyncio.gather(*[limiter.acquire("s", PLAN) for _ in range(100)])
        for decision in decisions:
            await limiter.release(decision)
        await limiter.aclose()
        return [decision.allowed for decision in decisions]

    with ThreadPoolExecutor(4) as pool:
        made = [each for some in pool.map(decide, limiters) for each in some]
    in_tasks = asyncio.run(decided())
    used = in_use(limiters[0])
    for decision in made[:40]:
        limiters[0].release(decision)
        limiters[0].settle(decision, 0)
    left = eventually(lambda: in_use(limiters[0]), [220, 120])

    assert [decision.allowed for decision in made] == [True] * 160
    assert in_tasks == [True] * 100
    assert used == [260, 160]
    assert left == [220, 120]
    for limiter in limiters:
        limiter.renew_leases()
        assert limiter.health()["lost_leases"] == 0
        limiter.close()


def test_prepared_statements_that_a_pooler_loses(url: str) -> None:
    """If a pooler gives a call another connection than the one that has prepared it, it is sent again and runs once."""
    route = route_to(url, timeout_ms=20_000, schema="awx", prefix="limits")
    limiter = Limiter(PostgresBackend(route))
    with psycopg.connect(url) as other:
        # It keeps one of the two connections until the transaction ends.
        other.execute("SELECT 1")
        allowed = [limiter.acquire("s", PLAN, 2).allowed for _ in range(5)]
    allowed += [limiter.acquire("s", PLAN, 2).allowed for _ in range(5)]

    used = in_use(limiter)
    limiter.close()
    (server,) = route.servers()
    assert allowed == [True] * 10
    assert used == [20, 10]
    assert server.is_pooled is True
