"""Single decisions of the scripts, for any stored state, compared with the core: the same integers."""

import os
import struct
from importlib.resources import files
from typing import Any, NamedTuple

import redis
from hypothesis import example, given
from hypothesis import strategies as st
from tests import strategies
from tests.redis_servers import RedisServer, run

from awx_ratelimit import Plan, Rate
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.plan_encoding import encode_limit
from awx_ratelimit.backends.remote.encoding import MAX_TIME_MS
from awx_ratelimit.core.bucket import convert_debt
from awx_ratelimit.core.decide import decide, preview, rates_set_back
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.core.rate import EXACT_MAX
from awx_ratelimit.core.settlement import NOTHING, corrections, unfilled

CODEC = Codec("awx", os.urandom(16))


class Stored(NamedTuple):
    """The stored state of one limit, and the rate by which it was charged."""

    rate: Rate
    debt: int
    at_ms: int


def value_of(front: list[Stored], tail: list[Stored], keep_ms: int = 2**50) -> bytes:
    """The value of these limits in the layout of state.lua, without leases."""
    names = b"".join(encode_limit(limit.rate) for limit in front)
    levels = b"".join(struct.pack("<qq", limit.debt, limit.at_ms) for limit in front)
    rest = b"".join(encode_limit(limit.rate) + struct.pack("<qqq", limit.debt, limit.at_ms, keep_ms) for limit in tail)
    head = struct.pack("<BBH", 2, len(front), len(names))
    return head + names + levels + struct.pack("<qH", keep_ms, len(rest)) + rest


class Case(NamedTuple):
    """A claim, and the stored state of its subject: limits of the last charge, and others."""

    plan: Plan
    cost: int
    looks: bool
    front: list[Stored]
    tail: list[Stored]


near = st.integers(-1, 1)
moments_ms = st.just(1_700_000_000_000) | st.integers(-MAX_TIME_MS, MAX_TIME_MS)


@st.composite
def stored(draw: st.DrawFn, rate: Rate, cost: int, now_ms: int) -> Stored:
    """A limit of this name, mostly in the plan's unit, near a boundary of a millisecond or a unit of debt."""
    known_rate = rate
    if not draw(st.integers(0, 2)):
        known_rate = draw(strategies.rates(rate.name) | strategies.extreme_rates(rate.name))
    unit, capacity = known_rate.unit, known_rate.capacity
    full, charged = rate.capacity * unit // rate.unit, cost * unit
    debt = draw(st.sampled_from([0, full, full - charged]) | strategies.magnitudes) + draw(near)
    debt = min(max(debt, 0), EXACT_MAX)
    known = convert_debt(rate, debt, unit, capacity)
    excess = known + cost * rate.unit - rate.capacity
    whole = [0, rate.period_ms, -rate.period_ms, -(-known // rate.drain), excess // rate.drain, now_ms % rate.period_ms]
    ago_ms = draw(st.sampled_from(whole) | st.integers(-100, 10**8)) + draw(near)
    return Stored(known_rate, debt, min(max(now_ms - ago_ms, -MAX_TIME_MS), MAX_TIME_MS))


@st.composite
def cases(draw: st.DrawFn, now_ms: int) -> Case:
    """Any claim on any state."""
    plan = draw(strategies.plans() | strategies.extreme_plans())
    cost = min(draw(st.integers(0, 3) | strategies.magnitudes), plan.max_cost)
    limits = [draw(stored(rate, cost, now_ms)) for rate in plan.rates]
    looks = draw(strategies.rarely)
    if draw(st.booleans()):
        return Case(plan, cost, looks, limits, [])
    limits = draw(st.permutations(limits))
    cut, end = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return Case(plan, cost, looks, limits[:cut], limits[cut:][:end])


@strategies.with_examples(100)
@given(data=st.data(), now_ms=moments_ms, passed_ms=st.integers(0, 10**6))
def test_decision(redis_server: RedisServer, data: st.DataObject, now_ms: int, passed_ms: int) -> None:
    """For any state, the result and the new state have the integers of `charge`."""
    later_ms = min(now_ms + passed_ms, MAX_TIME_MS)
    asked = data.draw(st.lists(cases(now_ms), min_size=1, max_size=16))
    with redis_server.client() as client:
        client.mset({CODEC.key(str(index)): value_of(case.front, case.tail) for index, case in enumerate(asked)})

        answers = [*zip(ask(client, asked, now_ms), ask(client, asked, later_ms, look=True), strict=True)]

    assert answers == [expected(case, now_ms, later_ms) for case in asked]


def ask(client: "redis.Redis", cases: list[Case], now_ms: int, look: bool = False) -> list[tuple[int, list[int]]]:
    asked = [
        (str(index), case.plan, case.cost, 0 if look or case.looks else CODEC.new_lease_id())
        for index, case in enumerate(cases)
    ]
    decisions = CODEC.parse_decisions(
        asked, run(client, CODEC.acquire(asked, (), now_ms)), HoldTimes(), lambda *_: CODEC
    )
    # There is room for one lease; other tests cover slots.
    return [(answer.exceeded & ~answer.plan.slot_bit, list(answer.levels)) for answer in decisions]  # type: ignore[union-attr]


def known_state(case: Case) -> list[int]:
    """The stored state in the units of the claim's plan."""
    known = {limit.rate.name: limit for limit in (*case.front, *case.tail)}
    state: list[int] = []
    for rate in case.plan.rates:
        limit = known.get(rate.name)
        state += (
            (convert_debt(rate, limit.debt, limit.rate.unit, limit.rate.capacity), limit.at_ms) if limit else (0, 0)
        )
    return state


def expected(case: Case, now_ms: int, later_ms: int) -> tuple[tuple[int, list[int]], tuple[int, list[int]]]:
    plan, state = case.plan, known_state(case)
    over, levels = (preview if case.looks else decide)(plan, state, 0, case.cost, now_ms)
    after = levels
    if case.looks or over & plan.enforced:
        moved = rates_set_back(plan, state, levels, now_ms)
        after = state.copy()
        for index, _, rate in plan.numbered_rates:
            if rate.name in moved:
                after[index + 1] = now_ms
    return (over, levels), preview(plan, after, 0, case.cost, later_ms)


@strategies.with_examples(60)
@given(data=st.data(), decided_at_ms=moments_ms)
def test_refund(redis_server: RedisServer, data: st.DataObject, decided_at_ms: int) -> None:
    """For any state and age, a refund reduces the debt by the value of `unfilled`, in its units."""
    plan = data.draw(strategies.plans() | strategies.extreme_plans())
    cost = min(data.draw(st.integers(0, 3) | strategies.magnitudes), plan.max_cost)
    over = sum(bit for _, bit, rate in plan.numbered_rates if cost > rate.burst or data.draw(strategies.rarely))
    limits = [data.draw(stored(rate, cost, decided_at_ms)) for rate in plan.rates]
    passed = [
        0,
        1,
        5_000,
        *(rate.period_ms for rate in plan.rates),
        *(cost * rate.unit // rate.drain for rate in plan.rates),
    ]
    now_ms = min(decided_at_ms + data.draw(st.sampled_from(passed)) + data.draw(near), MAX_TIME_MS)
    found = [("s", corrections(Charge(plan, cost, None), over, NOTHING))]
    with redis_server.client() as client:
        client.set(CODEC.key("s"), value_of(limits[:1], limits[1:]))

        call = CODEC.joint.settle(found, decided_at_ms, 0, now_ms, ())
        assert CODEC.joint.parse_settled(found, run(client, call)) == 0

        left = client.get(CODEC.key("s"))

    given = {rate.name: (unfilled(rate, -tokens, decided_at_ms, now_ms), rate.unit) for rate, tokens in found[0][1]}
    debts = [max(0, limit.debt - _given(given, limit)) for limit in limits]
    expected = [limit._replace(debt=debt) for limit, debt in zip(limits, debts, strict=True)]
    assert left == value_of(expected[:1], expected[1:])


def _given(given: dict[str, tuple[int, int]], limit: Stored) -> int:
    amount, unit = given.get(limit.rate.name, (0, 1))
    return amount * limit.rate.unit // unit


@strategies.with_examples(60)
@given(data=st.data(), now_ms=moments_ms)
def test_replay(redis_server: RedisServer, data: st.DataObject, now_ms: int) -> None:
    """For any state, the charges of a fallback are added once to the debt, up to the capacity."""
    case = data.draw(cases(now_ms))
    debts = [min(data.draw(strategies.magnitudes), rate.capacity) for rate in case.plan.rates]
    healed = [("0", case.plan, debts, ())]
    call = CODEC.heal(healed, os.urandom(8), now_ms)
    with redis_server.client() as client:
        client.set(CODEC.key("0"), value_of(case.front, case.tail))

        answers = [CODEC.parse_heal(healed, run(client, call)) for _ in range(2)]

        (_, levels) = ask(client, [case], now_ms, look=True)[0]

    _, owed = preview(case.plan, known_state(case), 0, case.cost, now_ms)
    expected = [
        max(owed[index], min(rate.capacity, owed[index] + debts[index // 2]))
        for index, _, rate in case.plan.numbered_rates
    ]
    assert answers == [[True], [False]]
    assert levels[::2] == expected


SCALED = (
    "\n".join(
        (files("awx_ratelimit.backends.redis") / "lua").joinpath(f"{name}.lua").read_text()
        for name in ("state", "limits")
    )
    + """
local t, answers = limit_functions(), {}
for at = 25, #asked - 23, 24 do
  local floor, rest = t.scaled(u('<ddd', asked, at))
  answers[#answers + 1] = pack('<dd', floor, rest)
end
return table.concat(answers)
"""
)


@example(triples=[(2**50, 3 * 2**10, 3 * 2**50), (2**52, 6, 2**53), (EXACT_MAX, EXACT_MAX, EXACT_MAX)])
@strategies.with_examples(60)
@given(triples=st.lists(st.tuples(*[strategies.magnitudes | st.integers(1, EXACT_MAX)] * 3), min_size=1, max_size=40))
def test_division_of_products(redis_server: RedisServer, triples: list[tuple[int, int, int]]) -> None:
    """A product is divided exactly, rounded down, with whether there is a remainder, for all counted numbers."""
    packed = struct.pack("<d16s", 0, b"") + b"".join(struct.pack("<ddd", *triple) for triple in triples)
    with redis_server.client() as client:
        reply: Any = client.eval(SCALED, 0, packed)

    answers = [
        (min(floor, EXACT_MAX), rest if floor < EXACT_MAX else 0) for floor, rest in struct.iter_unpack("<dd", reply)
    ]
    exact = [(min(a * b // c, EXACT_MAX), int(a * b % c > 0 and a * b // c < EXACT_MAX)) for a, b, c in triples]
    assert answers == exact
