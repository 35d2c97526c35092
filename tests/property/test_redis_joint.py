"""Joint claims, measures, calendar periods and settlements on a real server compared with the core in memory."""

from random import Random
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests import strategies
from tests.redis_servers import RedisServer
from tests.selection import parameters

from awx_ratelimit import Concurrency, Decision, MemoryBackend, Plan, Rate, RedisBackend
from awx_ratelimit.core.budget import Budget
from awx_ratelimit.core.decision import JointDecision
from awx_ratelimit.core.joint_claim import JointClaim, joint_claim
from awx_ratelimit.errors import ImpossibleClaim
from awx_ratelimit.testing import ManualClock

START_MS = 1_700_000_000_000
#: Longer than any history: the memory backend knows no ttl.
TTL_MS = 2**32 - 1
OPEN_MS = 600_000
SCOPES = (None, "account", "service")
SUBJECTS = ("a", "b")
#: Debts drain partly in some of these, so that they have a lowest value.
WAITS_MS = st.sampled_from([0, 0, 100, 1_000, 5_000, 30_000, 86_400_000])
SLOTS = st.none() | st.builds(Concurrency, st.integers(1, 3), ttl_ms=st.just(TTL_MS), shadow=strategies.rarely)


class KeepingBackend(MemoryBackend):
    """A memory backend that drops no subject: its sweep and Redis's expiry would differ."""

    def _sweep(self, now_ms: int) -> None: ...


@st.composite
def measured_rates(draw: st.DrawFn, name: str) -> Rate:
    """A rate of a measure that belongs to its name. Its period may be of any kind, so plans change it."""
    tokens, measure = draw(st.integers(1, 40)), "tokens" if name == "tokens" else "requests"
    period_ms, kind = draw(st.sampled_from([1_000, 60_000, 86_400_000])), draw(st.integers(0, 7))
    if kind == 0:
        return Rate(name, tokens, period_ms, refill="calendar", measure=measure)
    if kind == 1:
        # Its unit is not its period.
        return Rate(name, tokens << 30, 2**20, burst=tokens << 38, measure=measure)
    if kind == 2:
        zone = draw(st.sampled_from(["UTC", "Europe/Berlin"]))
        return Rate(name, tokens, period="month", anchor_day=31, timezone=zone, measure=measure)
    if kind == 3:
        return Rate(name, tokens, period="week", anchor_day=draw(st.integers(1, 7)), measure=measure)
    return Rate(name, tokens, period_ms, draw(st.integers(1, 60)), measure=measure, shadow=draw(strategies.rarely))


@st.composite
def measured_plans(draw: st.DrawFn) -> Plan:
    """A plan of one to three such rates, and perhaps slots."""
    names = draw(st.lists(st.sampled_from(["minute", "tokens", "month", "day"]), min_size=1, max_size=3, unique=True))
    return Plan("p", tuple(draw(measured_rates(name)) for name in names), draw(SLOTS))


class Made(NamedTuple):
    """An allowed claim on both backends."""

    on_redis: Decision
    in_memory: Decision
    charged_ms: int


class JointClaims(RuleBasedStateMachine):
    """Claims of one to three budgets and plain ones, that are released, settled and reset, on two backends."""

    client: "redis.Redis"
    url: str

    @initialize(plans=st.lists(measured_plans(), min_size=2, max_size=4))
    def begin(self, plans: list[Plan]) -> None:
        self.clock = ManualClock(START_MS)
        self.memory = KeepingBackend(clock=self.clock)
        self.redis = self.open_server()
        self.plans = plans
        self.held: list[Made] = []
        self.unsettled: list[Made] = []

    def open_server(self) -> Any:
        """The other backend, on an empty server."""
        self.client.flushall()
        return RedisBackend.from_url(self.url, clock=self.clock, timeout_ms=5_000)

    @rule(
        chosen=st.lists(st.tuples(st.sampled_from(SUBJECTS), st.integers(0, 3)), min_size=1, max_size=3),
        scopes=st.permutations(SCOPES),
        cost=st.integers(0, 12) | st.fixed_dictionaries({"requests": st.integers(0, 9), "tokens": st.integers(0, 20)}),
        declared=st.booleans(),
        looks=strategies.rarely,
    )
    def claim(
        self, chosen: list[tuple[str, int]], scopes: list[str | None], cost: Any, declared: bool, looks: bool
    ) -> None:
        """Several budgets, each in another scope."""
        budgets = tuple(
            Budget(subject, self.plans[choice % len(self.plans)], scope)
            for (subject, choice), scope in zip(chosen, scopes, strict=False)
        )
        try:
            claim = joint_claim(budgets, cost, declared=declared)
        except (ValueError, ImpossibleClaim):
            return
        self.compare(claim, looks)

    def compare(self, claim: JointClaim, looks: bool) -> None:
        self.forget_far_claims()
        verbs = [(backend.peek_joint if looks else backend.acquire_joint) for backend in (self.redis, self.memory)]
        on_redis, in_memory = [verb(claim) for verb in verbs]
        assert numbers(on_redis) == numbers(in_memory)
        self.note(on_redis, in_memory)

    @rule(subject=st.sampled_from(SUBJECTS), choice=st.integers(0, 3), cost=st.integers(0, 9))
    def plain_claim(self, subject: str, choice: int, cost: int) -> None:
        self.forget_far_claims()
        plan = self.plans[choice % len(self.plans)]
        on_redis, in_memory = [backend.acquire(subject, plan, cost) for backend in (self.redis, self.memory)]
        assert numbers(on_redis) == numbers(in_memory)
        self.note(on_redis, in_memory)

    def forget_far_claims(self) -> None:
        """Do not settle declared claims that the next claim may let a backend forget: the clock is far from them."""
        now_ms = self.clock.now_ms()
        self.unsettled = [
            made
            for made in self.unsettled
            if abs(now_ms - made.charged_ms) <= OPEN_MS or not made.on_redis.holder.declared_id
        ]

    def note(self, on_redis: Decision, in_memory: Decision) -> None:
        made = Made(on_redis, in_memory, self.clock.now_ms())
        assert bool(on_redis.lease_id) == bool(in_memory.lease_id)
        if on_redis.lease_id:
            self.held.append(made)
        if on_redis.holder is not None:
            self.unsettled.append(made)

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 9))
    def release(self, number: int) -> None:
        made = self.held.pop(number % len(self.held))
        self.redis.release(made.on_redis)
        self.memory.release(made.in_memory)

    @precondition(lambda self: self.unsettled)
    @rule(
        number=st.integers(0, 9),
        actual=st.none()
        | st.fixed_dictionaries({"requests": st.integers(0, 90)})
        | st.fixed_dictionaries({"tokens": st.integers(0, 90)}),
    )
    def settle(self, number: int, actual: Any) -> None:
        """Older declared claims than what is kept exactly are never settled here."""
        made = self.unsettled.pop(number % len(self.unsettled))
        if self.clock.now_ms() - made.charged_ms <= OPEN_MS or not made.on_redis.holder.declared_id:
            self.redis.settle(made.on_redis, actual)
            self.memory.settle(made.in_memory, actual)
            counts = [backend.health()["cut_off_tokens"] for backend in (self.redis, self.memory)]
            assert counts[0] == counts[1]

    @rule(
        claims=st.lists(st.tuples(st.integers(1, 9), WAITS_MS), min_size=2, max_size=5),
        settled=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12), WAITS_MS), min_size=1, max_size=5),
    )
    def overlap(self, claims: list[tuple[int, int]], settled: list[tuple[int, int, int]]) -> None:
        """Declared claims of one budget that are open at the same time."""
        self.forget_far_claims()
        first = len(self.unsettled)
        for cost, wait_ms in claims:
            self.clock.advance(wait_ms)
            self.claim([("a", 0)], [None], cost, True, False)
        for number, cost, wait_ms in settled:
            self.clock.advance(wait_ms)
            if len(self.unsettled) > first:
                self.settle(first + number % (len(self.unsettled) - first), {"requests": cost})
        self.claim([("a", 0)], [None], 1, False, True)

    @rule(subject=st.sampled_from(SUBJECTS), scope=st.sampled_from(SCOPES))
    def reset(self, subject: str, scope: str | None) -> None:
        self.redis.reset(subject, scope)
        self.memory.reset(subject, scope)

    @rule(ms=st.sampled_from([0, 1, 999, 1_000, 7_000, 61_000, 400_000, -1, -500, -61_000]))
    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule(days=st.sampled_from([1, 20, 40, -1, -20, -40]))
    def pass_days(self, days: int) -> None:
        while self.held:
            self.release(0)
        self.clock.advance(days * 86_400_000)

    def teardown(self) -> None:
        if hasattr(self, "redis"):
            self.redis.close()
        self.check_expiry()

    def check_expiry(self) -> None:
        assert [key for key in self.client.scan_iter() if self.client.pttl(key) <= 0] == []


def numbers(decision: Decision) -> tuple[Any, ...]:
    """The numbers on which both backends must agree."""
    states: Any = decision.states if isinstance(decision, JointDecision) else [decision[4:7]]
    found = [
        (state[0], list(state[1][: 2 * len(plan.rates)]), state[2])
        for state, plan in zip(states, decision.record_plans, strict=True)
    ]
    return decision.decided_at_ms, found, decision.holder is not None


@pytest.mark.timeout(600)
def test_joint_claims_equal_the_core(redis_server: RedisServer) -> None:
    """After any history, a real server decides joint claims and settles them with the same integers as memory."""
    with redis_server.client() as client:
        machine = type("JointClaims", (JointClaims,), {"client": client, "url": redis_server.socket_url})
        run_state_machine_as_test(machine, settings=strategies.with_examples(50, stateful_step_count=40))


@pytest.mark.parametrize("seed", parameters(range(3), full="12"))
def test_many_open_claims_equal_the_core(redis_server: RedisServer, seed: int) -> None:
    """Hundreds of open claims in several chunks, with limits that come and go, give back the same as in memory."""
    random, clock, open_claims = Random(seed), ManualClock(START_MS), list[tuple[Decision, Decision]]()
    x, y, z = Rate("x", 2_000, 60_000), Rate("y", 600, 3_600_000), Rate("z", 200, 60_000, refill="calendar")
    plans = [Plan("p", rates) for rates in ((x, y), (x, z), (y,), (Rate("x", 2_001, 60_000), y))]
    memory = KeepingBackend(clock=clock)
    with redis_server.client() as client:
        client.flushall()
    on_redis = RedisBackend.from_url(redis_server.socket_url, clock=clock, timeout_ms=5_000)
    most = 0
    for step in range(900):
        if random.random() < (0.15, 0.3, 0.45)[seed] and open_claims:
            later, earlier = open_claims.pop(random.randrange(len(open_claims)))
            actual = random.choice((None, {"requests": 0}, {"requests": 3}))
            on_redis.settle(later, actual)
            memory.settle(earlier, actual)
            continue
        clock.advance(random.choice((0, 0, 0, 1, 5, 40, -3)))
        (plan,) = random.choices(plans, (50, 9, 9, 1))
        claim = joint_claim((Budget("s", plan),), random.choice((1, 2)), declared=random.random() < 0.9)
        made = on_redis.acquire_joint(claim), memory.acquire_joint(claim)
        assert numbers(made[0]) == numbers(made[1]), f"step {step}"
        if made[0].allowed:
            open_claims.append(made)
        most = max(most, len(open_claims))
    on_redis.close()
    assert most > 60


def test_a_charge_touches_no_rows(redis_server: RedisServer) -> None:
    """However many claims are open, a charge reads and writes one field, and a declared claim two."""
    plan, commands = Plan.of("p", per_minute=1_000), dict[str, int]()
    with redis_server.client() as client:
        client.flushall()
        backend = RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000)
        declared, plain = (joint_claim((Budget("s", plan),), 1, declared=each) for each in (True, False))
        for _ in range(100):
            backend.acquire_joint(declared)
        client.config_resetstat()
        backend.acquire_joint(plain)
        backend.acquire("s", plan, 1)
        commands["plain"] = client.info("commandstats")["cmdstat_hget"]["calls"]
        backend.acquire_joint(declared)
        commands["all"] = client.info("commandstats")["cmdstat_hget"]["calls"]
        rows = [len(value) for field, value in client.hgetall(backend._session.codec.key("s")).items() if field != b"v"]
        backend.close()

    assert commands == {"plain": 2, "all": 4}
    assert len(rows) == 4
    assert max(rows) <= 32 * 39
