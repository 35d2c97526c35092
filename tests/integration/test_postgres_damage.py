"""Records that somebody has damaged: each fails only the claims that need it, and a reset makes it usable again."""

import asyncio
from collections.abc import Awaitable

import psycopg
import pytest
from tests.postgres_servers import Postgres

from awx_ratelimit import AsyncLimiter, Budget, Decision, Limiter, Plan
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.postgres.keys import Keys
from awx_ratelimit.errors import StateDamaged

PLAN = Plan.of("p", per_minute=100, per_day=1_000, concurrent=50)
OTHER = Plan.of("other", per_hour=100)
DAMAGES = [
    "levels = '{1,2,3}'",
    "levels = '{NULL,0,0,0}'",
    "levels = '{{1,2},{3,4}}'",
    "head = 'noise'",
    r"head = E'minute\tx\t1\t1\t1\t', levels = '{1,1}'",
    "kept = '{noise}', kept_levels = '{1}'",
    "leases = '{1,2,3}'",
]


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.emptied_limits()


def damage(url: str, subject: str, change: str) -> None:
    """Damage the record of a subject."""
    with psycopg.connect(url, autocommit=True) as connection:
        statement = f"UPDATE awx.limits_records SET {change} WHERE subject = %s"
        assert connection.execute(statement.encode(), (Keys().digest(subject),)).rowcount == 1


@pytest.mark.parametrize("change", DAMAGES)
def test_a_damaged_record_fails_its_own_claims(url: str, change: str) -> None:
    """Of the claims of a batch, only those of a damaged record fail, and a reset makes the record usable again."""
    calls = []

    async def decided() -> tuple[list[object], Decision]:
        backend = AsyncPostgresBackend.from_url(url, timeout_ms=20_000)
        limiter = AsyncLimiter(backend)
        for name in ("bad", "good"):
            await limiter.acquire(name, PLAN)
        damage(url, "bad", change)
        backend._session.call_observers += (lambda _, seconds: calls.append(seconds),)
        claims: list[Awaitable[Decision]] = [limiter.acquire(name, PLAN) for name in ("first", "bad", "new", "good")]
        claims += [limiter.acquire(name, OTHER, also=[Budget("bad", OTHER, "s")]) for name in ("new", "good")]
        claims += [limiter.acquire(name, OTHER, also=[Budget("last", OTHER, "s")]) for name in ("bad", "other")]
        outcomes: list[object] = list(await asyncio.gather(*claims, return_exceptions=True))
        await limiter.reset("bad")
        again = await limiter.acquire("bad", PLAN)
        await limiter.aclose()
        return outcomes, again

    outcomes, again = asyncio.run(decided())

    failed = [isinstance(outcome, StateDamaged) for outcome in outcomes]
    assert failed == [False, True, False, False, False, False, True, False]
    assert all(outcome.allowed for outcome in outcomes if isinstance(outcome, Decision))
    assert again.allowed is True
    # The first claim went alone, then claims of one and of several budgets as one call, and then that after the reset.
    assert len(calls) == 3


def test_a_damaged_record_and_maintenance(url: str) -> None:
    """Leases of other records are renewed, and what an outage left is entered, in the call of a damaged record too."""
    backend = PostgresBackend.from_url(url, timeout_ms=20_000)
    limiter = Limiter(backend)
    held = [limiter.acquire(name, PLAN) for name in ("bad", "good")]
    damage(url, "bad", f"head = 'noise', leases = '{{1,2,3,{2**63 - 1},{2**63 - 1},0}}'")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE awx.limits_records SET renewed_ms = 1")

    limiter.renew_leases()
    entered = backend.heal([("bad", PLAN, (0, 0), ()), ("good", PLAN, (60_000, 0), ())], b"12345678")

    with psycopg.connect(url) as connection:
        renewed = connection.execute(
            "SELECT renewed_ms > 1 FROM awx.limits_records WHERE subject = %s", (Keys().digest("good"),)
        ).fetchone()
    lost = limiter.health()["lost_leases"]
    limiter.close()
    assert [decision.allowed for decision in held] == [True, True]
    assert renewed == (True,)
    assert lost == 1
    assert entered == []
