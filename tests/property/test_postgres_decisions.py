"""Single decisions of the functions, for any stored state, compared with the core: the same integers."""

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import strategies
from tests.postgres_servers import Postgres
from tests.property.test_redis_decisions import Case, Stored, cases, expected, moments_ms, near, stored

from awx_ratelimit import Concurrency, Decision, Plan, Rate
from awx_ratelimit.backends.postgres.codec import Codec
from awx_ratelimit.backends.postgres.connection import Connection
from awx_ratelimit.backends.postgres.plan_encoding import limit_line
from awx_ratelimit.backends.postgres.server import Server, server_at
from awx_ratelimit.backends.remote.encoding import MAX_TIME_MS, SEQUENCE
from awx_ratelimit.backends.remote.replies import raise_error
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.settlement import NOTHING, corrections, unfilled

PLACE = "awx.limits"
CODEC = Codec(PLACE, os.urandom(16))
KEEP_MS = 2**62
TTL_MS = 30_000
INSERT = b"INSERT INTO awx.limits_records VALUES (%s, '', %s, %s, %s, 0, %s, %s, %s, %s, '{}')"


class Database:
    """Limits whose state a test writes."""

    def __init__(self, server: Server) -> None:
        self._writer = psycopg.connect(server.conninfo, autocommit=True)
        self._calls = Connection(server)

    def write(self, states: dict[str, tuple[list[Stored], list[Stored]]]) -> None:
        """Replace all records by these: limits of the last charge, and others."""
        self._writer.execute("TRUNCATE awx.limits_records, awx.limits_notes")
        rows = [
            (
                CODEC.key(subject), KEEP_MS, 2**63 - 1, -(2**62),
                "\n".join(limit_line(limit.rate) for limit in front),
                [number for limit in front for number in (limit.debt, limit.at_ms)],
                [limit_line(limit.rate) for limit in tail],
                [number for limit in tail for number in (limit.debt, limit.at_ms, KEEP_MS)],
            )
            for subject, (front, tail) in states.items()
        ]  # fmt: skip
        with self._writer.cursor() as cursor:
            cursor.executemany(INSERT, rows)

    def levels(self, subject: str) -> tuple[list[int], list[int]]:
        """The stored levels of a record."""
        statement = "SELECT levels, kept_levels FROM awx.limits_records WHERE subject = %s"
        row: Any = self._writer.execute(statement, (CODEC.key(subject),)).fetchone()
        return row[0], row[1]

    def hold(self, subject: str, lease_id: int, now_ms: int) -> None:
        """Enter a lease."""
        lease = [*CODEC._owner, lease_id & SEQUENCE, now_ms + TTL_MS, TTL_MS, 0]
        statement = (
            "UPDATE awx.limits_records SET leases = %s::bigint[], lapse_ms = %s, renewed_ms = %s WHERE subject = %s"
        )
        self._writer.execute(statement, (lease, now_ms + TTL_MS, now_ms, CODEC.key(subject)))

    def held(self, subject: str) -> list[int]:
        """The sequences of the leases of a record."""
        statement = "SELECT leases FROM awx.limits_records WHERE subject = %s"
        row: Any = self._writer.execute(statement, (CODEC.key(subject),)).fetchone()
        return row[0][2::6] if row else []

    def run(self, call: Any) -> Any:
        """The reply to a call."""
        (reply,) = self._calls.run([call])
        return raise_error(reply)

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._calls.close()


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    """An empty database."""
    server = server_at(postgres.url(postgres.new_database()), PLACE, timeout_ms=20_000)
    server.migrate()
    database = Database(server)
    yield database
    database.close()


def ask(database: Database, asked: list[Case], now_ms: int, look: bool = False) -> list[tuple[int, list[int]]]:
    claims = [
        (str(index), case.plan, case.cost, 0 if look or case.looks else CODEC.new_lease_id())
        for index, case in enumerate(asked)
    ]
    decisions = CODEC.parse_decisions(
        claims, database.run(CODEC.acquire(claims, (), now_ms)), HoldTimes(), lambda *_: CODEC
    )
    # There is room for one lease; other tests cover slots.
    return [(answer.exceeded & ~answer.plan.slot_bit, list(answer.levels)) for answer in decisions]  # type: ignore[union-attr]


@strategies.with_examples(100)
@given(data=st.data(), now_ms=moments_ms, passed_ms=st.integers(0, 10**6))
def test_decision(database: Database, data: st.DataObject, now_ms: int, passed_ms: int) -> None:
    """For any state, the result and the new state have the integers of the core."""
    later_ms = min(now_ms + passed_ms, MAX_TIME_MS)
    asked = data.draw(st.lists(cases(now_ms), min_size=1, max_size=16))
    database.write({str(index): (case.front, case.tail) for index, case in enumerate(asked)})

    answers = [*zip(ask(database, asked, now_ms), ask(database, asked, later_ms, look=True), strict=True)]

    assert answers == [expected(case, now_ms, later_ms) for case in asked]


@st.composite
def single_claims(draw: st.DrawFn, now_ms: int) -> Case:
    """A claim of a few continuous rates and perhaps slots, all enforced: one UPDATE decides it if it fits."""
    rates = []
    for name in ("minute", "hour", "day")[: draw(st.sampled_from((1, 2, 2, 3)))]:
        any_rate = strategies.rates(name) | strategies.extreme_rates(name)
        rates.append(draw(any_rate.filter(lambda rate: not rate.calendar and not rate.shadow)))
    plan = Plan("p", tuple(rates), draw(st.none() | st.just(Concurrency(2))))
    cost = min(draw(st.integers(1, 3) | strategies.magnitudes), plan.max_cost)
    spend_statements(plan, cost, draw(st.booleans()))
    return Case(plan, cost, False, [draw(stored(rate, cost, now_ms)) for rate in plan.rates], [])


def spend_statements(plan: Plan, cost: int, wanted: bool) -> None:
    """Use other costs first, so that there is no statement of this cost: then it is a parameter."""
    for other in range(cost + 1, cost + 6) if wanted else ():
        CODEC._singles.of(plan, other)


@strategies.with_examples(250)
@given(data=st.data(), now_ms=moments_ms, passed_ms=st.integers(0, 10**6))
def test_single_claim(database: Database, data: st.DataObject, now_ms: int, passed_ms: int) -> None:
    """For any state, a claim that is alone in its call has the integers of the core too."""
    case, later_ms = data.draw(single_claims(now_ms)), min(now_ms + passed_ms, MAX_TIME_MS)
    database.write({"0": (case.front, case.tail)})

    answers = [*ask(database, [case], now_ms), *ask(database, [case], later_ms, look=True)]

    assert answers == [*expected(case, now_ms, later_ms)]


def test_large_debt(database: Database) -> None:
    """A claim that is alone drains a debt of any size, whatever the capacity is now."""
    rate, now_ms = Rate("day", tokens=4, period_ms=1, burst=2), 1_700_000_000_000
    case = Case(Plan("p", (rate,)), 1, False, [Stored(rate, 9, now_ms - 3)], [])
    database.write({"0": (case.front, case.tail)})

    assert ask(database, [case], now_ms) == [expected(case, now_ms, now_ms)[0]]


@strategies.with_examples(100)
@given(data=st.data(), now_ms=moments_ms, passed_ms=st.integers(0, 10**6))
def test_released_slot(database: Database, data: st.DataObject, now_ms: int, passed_ms: int) -> None:
    """A claim that is sent with a release of the only slot gets it, and has the integers of the core."""
    case, later_ms = data.draw(single_claims(now_ms)), min(now_ms + passed_ms, MAX_TIME_MS)
    case = case._replace(plan=Plan("p", case.plan.rates, Concurrency(1)))
    spend_statements(case.plan, case.cost, data.draw(st.booleans()))
    gone, lease_id = CODEC.new_lease_id(), CODEC.new_lease_id()
    database.write({"0": (case.front, case.tail)})
    database.hold("0", gone, now_ms)

    claim = "0", case.plan, case.cost, lease_id
    reply = database.run(CODEC.acquire([claim], [("0", gone)], now_ms))
    (decision,) = CODEC.parse_decisions([claim], reply, HoldTimes(), lambda *_: CODEC)
    assert isinstance(decision, Decision)
    held = database.held("0")
    answers = [(decision.exceeded, list(decision.levels)), *ask(database, [case], later_ms, look=True)]

    assert answers == [*expected(case, now_ms, later_ms)]
    assert held == ([lease_id & SEQUENCE] if decision.allowed else [])


@strategies.with_examples(60)
@given(data=st.data(), decided_at_ms=moments_ms)
def test_refund(database: Database, data: st.DataObject, decided_at_ms: int) -> None:
    """For any state and age, a refund reduces the debt by the value of `unfilled`, in its units."""
    plan = data.draw(strategies.plans() | strategies.extreme_plans())
    cost = min(data.draw(st.integers(0, 3) | strategies.magnitudes), plan.max_cost)
    over = sum(bit for _, bit, rate in plan.numbered_rates if cost > rate.burst or data.draw(strategies.rarely))
    limits = [data.draw(stored(rate, cost, decided_at_ms)) for rate in plan.rates]
    passed = [0, 1, 5_000, *(rate.period_ms for rate in plan.rates)]
    passed += [cost * rate.unit // rate.drain for rate in plan.rates]
    now_ms = decided_at_ms + data.draw(st.sampled_from(passed)) + data.draw(near)
    now_ms = max(-MAX_TIME_MS, min(now_ms, MAX_TIME_MS))
    found = [("s", corrections(Charge(plan, cost, None), over, NOTHING))]
    database.write({"s": (limits[:1], limits[1:])} if limits else {})

    reply = database.run(CODEC.joint.settle(found, decided_at_ms, 0, now_ms, ()))

    assert CODEC.joint.parse_settled(found, reply) == 0
    if limits:
        given_back = {rate.name: (unfilled(rate, -n, decided_at_ms, now_ms), rate.unit) for rate, n in found[0][1]}
        debts = []
        for limit in limits:
            amount, unit = given_back.get(limit.rate.name, (0, 1))
            debts.append(max(0, limit.debt - amount * limit.rate.unit // unit))
        front, tail = database.levels("s")
        assert front[::2] + tail[::3] == debts


@strategies.with_examples(60)
@given(data=st.data(), now_ms=moments_ms)
def test_replay(database: Database, data: st.DataObject, now_ms: int) -> None:
    """For any state, the charges of a fallback are added once to the debt, up to the capacity."""
    case = data.draw(cases(now_ms))
    debts = [min(data.draw(strategies.magnitudes), rate.capacity) for rate in case.plan.rates]
    healed = [("0", case.plan, debts, ())]
    call = CODEC.heal(healed, os.urandom(8), now_ms)
    database.write({"0": (case.front, case.tail)})
    ((_, owed),) = ask(database, [case._replace(looks=True)], now_ms, look=True)
    database.write({"0": (case.front, case.tail)})

    answers = [CODEC.parse_heal(healed, database.run(call)) for _ in range(2)]

    ((_, levels),) = ask(database, [case], now_ms, look=True)
    wanted = [
        max(owed[index], min(rate.capacity, owed[index] + debts[index // 2]))
        for index, _, rate in case.plan.numbered_rates
    ]
    assert answers == [[True], [False]]
    assert levels[::2] == wanted
