"""Calls of every kind that meet in the same few records."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import psycopg
import pytest
from tests.machine import eventually
from tests.postgres_servers import Postgres

from awx_ratelimit import Plan
from awx_ratelimit.backends.postgres.codec import Codec
from awx_ratelimit.backends.postgres.connection import Connection
from awx_ratelimit.backends.postgres.keys import Keys
from awx_ratelimit.backends.postgres.server import Server, server_at
from awx_ratelimit.backends.remote.pending_claims import PendingJoint
from awx_ratelimit.core.budget import Budget, Record
from awx_ratelimit.core.joint_claim import joint_claim

PLACE = "awx.limits"
PLANS = [Plan.of("p", per_minute=10**6, concurrent=10**4), Plan.of("q", per_hour=10**6, concurrent=10**4)]
#: A digest decides the order of the locks: so it is not that of the names.
SUBJECTS = [f"s{number}" for number in range(8)]
SCOPES = ("", "", "s0", "s1")
CALLS, CONNECTIONS = 70, 4
DAMAGE, REMOVE = b"UPDATE awx.limits_records SET levels = '{1}'", b"DELETE FROM awx.limits_records"
NOW_MS = 1_700_000_000_000
#: Between two locks, and after the last one, others get the time to come between.
SLOWER = (
    b"""CREATE FUNCTION awx.slower() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_sleep(random() * 0.002); RETURN new; END $$""",
    b"CREATE TRIGGER slower BEFORE INSERT ON awx.limits_records FOR EACH ROW EXECUTE FUNCTION awx.slower()",
    b"""CREATE OR REPLACE FUNCTION awx.limits_now_1(call_ms bigint) RETURNS bigint LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_sleep(random() * 0.004); RETURN date_part('epoch', clock_timestamp()) * 1000; END $$""",
)


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Server]:
    """A new database that looks for deadlocks early."""
    name = postgres.new_database()
    server = server_at(postgres.url(name), PLACE, timeout_ms=20_000)
    server.migrate()
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'".encode())
        for statement in SLOWER:
            connection.execute(statement)
    yield server
    postgres.drop(name)


class Calls:
    """Random calls of one owner of leases."""

    def __init__(self, seed: int) -> None:
        self._codec = Codec(PLACE, os.urandom(16))
        self._random = Random(seed)
        self._leases: list[tuple[Record, int]] = []

    def next(self) -> Any:
        """A call of a kind that is drawn."""
        chosen = self._random.sample(SUBJECTS, self._random.randrange(3, len(SUBJECTS)))
        kind = self._random.choice((self._plain, self._plain, self._joint, self._settle, self._renew, self._heal))
        return kind(chosen)

    def _released(self) -> list[tuple[Record, int]]:
        released, self._leases = self._leases[:5], self._leases[5:]
        return released

    def _new_id(self, subject: str) -> int:
        """A lease, or that of a peek."""
        if self._random.random() < 0.5:
            return 0
        lease_id = self._codec.new_lease_id()
        self._leases.append((subject, lease_id))
        return lease_id

    def _plain(self, chosen: list[str]) -> Any:
        plans = self._random.choices(PLANS, k=len(chosen))
        claims = [(name, plan, 1, self._new_id(name)) for name, plan in zip(chosen, plans, strict=True)]
        return self._codec.acquire(claims, self._released())

    def _joint(self, chosen: list[str]) -> Any:
        claims = []
        for first in (0, 1, 2):
            budgets = tuple(Budget(name, PLANS[at % 2], f"s{at}") for at, name in enumerate(chosen[first:]))
            claim = joint_claim(budgets, 1, declared=self._random.random() < 0.5)
            lease_id = self._codec.new_lease_id() if self._random.random() < 0.5 else 0
            claims.append(PendingJoint(claim.records[0], claim, (), lease_id))
        return self._codec.joint.acquire(claims, self._released(), None, NOW_MS)

    def _settle(self, chosen: list[str]) -> Any:
        changes: list[Any] = [
            (name, [(self._random.choice(PLANS).rates[0], self._random.choice((-1, 1)))]) for name in chosen
        ]
        return self._codec.joint.settle(changes, NOW_MS, self._codec.new_lease_id(), None, (), declared=False)

    def _renew(self, chosen: list[str]) -> Any:
        return self._codec.renew([(name, PLANS[0], self._codec.new_lease_id(), NOW_MS) for name in chosen])

    def _heal(self, chosen: list[str]) -> Any:
        return self._codec.heal([(name, PLANS[0], (1,), ()) for name in chosen], os.urandom(8))


def test_calls_of_every_kind_do_not_deadlock(server: Server) -> None:
    """Peeks, releases, settlements, renewals and replays, also of corrupt and missing records, lock in one order."""

    def run(seed: int) -> int:
        calls, connection, replies = Calls(seed), Connection(server), 0
        for _ in range(CALLS):
            replies += len(connection.run([calls.next()]))
        connection.close()
        return replies

    over = threading.Event()

    def disturb(seed: int) -> None:
        """Remove single records and damage them, as long as the calls last."""
        random = Random(seed)
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            while not over.wait(0.001):
                change = random.choice((DAMAGE, *[REMOVE] * 3))
                chosen = Keys().digest(random.choice(SUBJECTS)), random.choice(SCOPES)
                connection.execute(change + b" WHERE subject = %s AND scope = %s", chosen)

    with ThreadPoolExecutor(CONNECTIONS + 1) as pool:
        disturbing = pool.submit(disturb, CONNECTIONS)
        replies = sum(pool.map(run, range(CONNECTIONS)))
        over.set()
        disturbing.result()

    with psycopg.connect(server.conninfo, autocommit=True) as connection:

        def ask(statement: bytes) -> Any:
            return connection.execute(statement).fetchone()

        others = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        # A connection reports its deadlocks when it ends, if not before.
        assert eventually(lambda: ask(others), (1,)) == (1,)
        deadlocks = ask(b"SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert replies == CONNECTIONS * CALLS
    assert deadlocks == (0,)
