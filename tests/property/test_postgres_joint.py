"""Joint claims, measures, calendar periods and settlements on a real PostgreSQL compared with the core in memory."""

from random import Random
from typing import Any

import psycopg
import pytest
from hypothesis.stateful import run_state_machine_as_test
from tests import strategies
from tests.postgres_servers import Postgres
from tests.property.test_redis_joint import START_MS, JointClaims, KeepingBackend, numbers
from tests.selection import parameters

from awx_ratelimit import Decision, Plan, Rate
from awx_ratelimit.backends.postgres import PostgresBackend
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.testing import ManualClock


class RenewingClock(ManualClock):
    """Leases are renewed as time passes: each has a ttl of its own, and histories are longer."""

    backend: PostgresBackend | None = None

    def advance(self, ms: int) -> None:
        super().advance(ms)
        if self.backend is not None:
            self.backend.renew_leases()


class PostgresClaims(JointClaims):
    """The same histories on another server. It drops no subject, like KeepingBackend."""

    url: str

    def open_server(self) -> PostgresBackend:
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "TRUNCATE awx.limits_records, awx.limits_open_claims, awx.limits_steps, awx.limits_notes"
            )
        self.clock = RenewingClock(START_MS)
        self.memory = KeepingBackend(clock=self.clock)
        backend = self.clock.backend = PostgresBackend.from_url(self.url, clock=self.clock, timeout_ms=10_000)
        return backend

    def check_expiry(self) -> None:
        """Records are swept."""


@pytest.mark.timeout(600)
def test_joint_claims_equal_the_core(postgres: Postgres) -> None:
    """After any history, a real server decides joint claims and settles them with the same integers as memory."""
    url = postgres.url(postgres.new_database())
    PostgresBackend.from_url(url).close()
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION awx.limits_sweep_1(now_ms bigint) RETURNS void LANGUAGE sql AS 'SELECT'"
        )
    machine = type("PostgresClaims", (PostgresClaims,), {"url": url})
    run_state_machine_as_test(machine, settings=strategies.with_examples(30, stateful_step_count=40))


@pytest.mark.parametrize("seed", parameters(range(2), full="1"))
def test_many_open_claims_equal_the_core(postgres: Postgres, seed: int) -> None:
    """Hundreds of open claims, with limits that come and go, give back the same as in memory."""
    random, clock, open_claims = Random(seed), ManualClock(START_MS), list[tuple[Decision, Decision]]()
    x, y, z = Rate("x", 2_000, 60_000), Rate("y", 600, 3_600_000), Rate("z", 200, 60_000, refill="calendar")
    plans = [Plan("p", rates) for rates in ((x, y), (x, z), (y,), (Rate("x", 2_001, 60_000), y))]
    memory = KeepingBackend(clock=clock)
    backend = PostgresBackend.from_url(postgres.emptied_limits(), clock=clock, timeout_ms=10_000)
    most = 0
    for step in range(900):
        if random.random() < (0.15, 0.45)[seed] and open_claims:
            later, earlier = open_claims.pop(random.randrange(len(open_claims)))
            actual = random.choice((None, {"requests": 0}, {"requests": 3}))
            backend.settle(later, actual)
            memory.settle(earlier, actual)
            continue
        clock.advance(random.choice((0, 0, 0, 1, 5, 40, -3)))
        (plan,) = random.choices(plans, (50, 9, 9, 1))
        claim = joint_claim((Budget("s", plan),), random.choice((1, 2)), declared=random.random() < 0.9)
        made = backend.acquire_joint(claim), memory.acquire_joint(claim)
        assert numbers(made[0]) == numbers(made[1]), f"step {step}"
        if made[0].allowed:
            open_claims.append(made)
        most = max(most, len(open_claims))
    backend.close()
    assert most > 60


def test_a_clock_that_was_ahead(postgres: Postgres) -> None:
    """A claim is settled as in memory after the clock was ahead for a while, in which another claim was settled."""
    clock, plan = ManualClock(START_MS), Plan("p", (Rate("x", 60, 60_000),))
    memory = KeepingBackend(clock=clock)
    backend = PostgresBackend.from_url(postgres.emptied_limits(), clock=clock, timeout_ms=10_000)
    backends: tuple[Any, ...] = backend, memory
    opened = [each.acquire_joint(joint_claim((Budget("s", plan),), 5, declared=True)) for each in backends]
    clock.advance(25 * 3_600_000)
    for each in backends:
        each.settle(each.acquire_joint(joint_claim((Budget("s", plan),), 5)), {"requests": 3})
    clock.advance(-25 * 3_600_000)

    for each, decision in zip(backends, opened, strict=True):
        each.settle(decision, {"requests": 0})

    after = [numbers(each.peek("s", plan, 1)) for each in backends]
    backend.close()
    assert after[0] == after[1]


def test_a_cost_above_the_burst_after_a_long_time(postgres: Postgres) -> None:
    """A cost above the burst is refused, however long the limit was not used."""
    clock, plan = ManualClock(START_MS), Plan("p", (Rate("x", 1, 1_000),))
    backend = PostgresBackend.from_url(postgres.emptied_limits(), clock=clock, timeout_ms=10_000)
    backend.acquire("s", plan, 1)
    clock.advance(24 * 3_600_000)
    refused = backend.acquire("s", plan, 2)
    backend.close()

    assert not refused.allowed
