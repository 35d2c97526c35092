"""The scripts on a real server compared with the core in memory, on random histories: the same integers."""

import os
from collections import defaultdict
from typing import Any

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests import strategies
from tests.redis_servers import RedisServer, run

from awx_ratelimit import Decision, MemoryBackend, Plan
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.remote.encoding import MAX_TIME_MS
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.settlement import NOTHING, charges, corrections
from awx_ratelimit.testing import ManualClock

START_MS = 1_700_000_000_000
SUBJECTS = st.sampled_from(["a", "b"])


class KeepingBackend(MemoryBackend):
    """A memory backend that drops no subject: its sweep and Redis's expiry would differ."""

    def _sweep(self, now_ms: int) -> None: ...


class Claims(RuleBasedStateMachine):
    """Two processes and two subjects: batches, plan changes, clocks, refunds, resets, peeks, leases that lapse."""

    client: "redis.Redis"
    plans: list[Plan]

    @initialize(plans=st.lists(strategies.plans() | strategies.extreme_plans(), min_size=1, max_size=4))
    def begin(self, plans: list[Plan]) -> None:
        self.client.flushall()
        self.clock = ManualClock(START_MS)
        self.memory = KeepingBackend(clock=self.clock)
        self.codecs = [Codec("awx", os.urandom(16)) for _ in range(2)]
        self.hold_times = HoldTimes()
        self.plans = plans
        self.open: list[tuple[int, Decision, Decision]] = []
        self.charged: list[tuple[Decision, Decision]] = []
        #: For each subject and owner: when its leases lapse, and after how long.
        self.lives: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)

    @rule(
        who=st.integers(0, 1),
        asked=st.lists(
            st.tuples(SUBJECTS, st.integers(0, 3), strategies.magnitudes | st.integers(0, 60), strategies.rarely),
            min_size=1,
            max_size=4,
        ),
        give_back=st.lists(st.integers(0, 9), max_size=2),
    )
    def call(self, who: int, asked: list[tuple[str, int, int, bool]], give_back: list[int]) -> None:
        """Send some releases and some claims in one call; the releases are this process's own."""
        codec, now_ms = self.codecs[who], self.clock.now_ms()
        own = [entry for entry in self.open if entry[0] == who]
        given = [own[number % len(own)] for number in give_back if own]
        claims = []
        for subject, choice, cost, looks in asked:
            plan = self.plans[choice % len(self.plans)]
            claims.append((subject, plan, min(cost, plan.max_cost), 0 if looks else codec.new_lease_id()))
        released = [(decision.subject, decision.lease_id) for _, decision, _ in given]

        answers = codec.parse_decisions(
            claims, run(self.client, codec.acquire(claims, released, now_ms)), self.hold_times, lambda *_: codec
        )

        for entry in given:
            self.let_lapse(entry[1].subject, now_ms)
            self.memory.release(entry[2])
        self.open = [entry for entry in self.open if entry not in given]
        for claim, answer in zip(claims, answers, strict=True):
            self.compare(who, claim, answer)

    def compare(self, who: int, claim: tuple[str, Plan, int, int], answer: Any) -> None:
        subject, plan, cost, lease_id = claim
        self.let_lapse(subject, self.clock.now_ms())
        expected = (self.memory.acquire if lease_id else self.memory.peek)(subject, plan, cost)
        assert numbers(answer) == numbers(expected)
        assert answer.lease_id in (lease_id, 0)
        if answer.lease_id:
            assert plan.concurrency is not None
            ttl_ms = max(self.lives[subject].get(who, (0, 0))[1], min(plan.concurrency.ttl_ms, 2**32 - 1))
            self.lives[subject][who] = self.clock.now_ms() + ttl_ms, ttl_ms
            self.open.append((who, answer, expected))
        if answer.holder:
            self.charged.append((answer, expected))

    def let_lapse(self, subject: str, now_ms: int) -> None:
        """Apply the lapse of leases to the memory backend, which does not know it."""
        for who, (expires_ms, ttl_ms) in list(self.lives[subject].items()):
            self.lives[subject][who] = min(expires_ms, now_ms + ttl_ms), ttl_ms
            ledger = self.memory._shards[hash(subject) & 63].find(subject)
            mine = [entry for entry in self.open if entry[0] == who and entry[1].subject == subject]
            if ledger is not None:
                ledger.end_overdue(now_ms)
            if expires_ms <= now_ms:
                for entry in mine:
                    self.memory.release(entry[2])
                    self.open.remove(entry)
            if not any(ledger and entry[2].lease_id in ledger.leases for entry in mine) or expires_ms <= now_ms:
                del self.lives[subject][who]

    @rule(ms=strategies.times_ms | strategies.periods_ms | strategies.magnitudes.map(lambda ms: ms if ms % 2 else -ms))
    def pass_time(self, ms: int) -> None:
        self.clock.set(min(max(self.clock.now_ms() + ms, -MAX_TIME_MS), MAX_TIME_MS))

    @rule(period_ms=st.sampled_from([1_000, 60_000, 86_400_000]), off=st.integers(-1, 1))
    def reach_a_boundary(self, period_ms: int, off: int) -> None:
        self.clock.set(min((self.clock.now_ms() // period_ms + 1) * period_ms + off, MAX_TIME_MS))

    @precondition(lambda self: self.charged)
    @rule(choice=st.integers(0, 9))
    def refund(self, choice: int) -> None:
        decision, expected = self.charged.pop(choice % len(self.charged))
        now_ms = self.clock.now_ms()
        found = [(record, corrections(charge, over, NOTHING)) for record, charge, over in charges(decision)]
        call = self.codecs[0].joint.settle(found, decision.decided_at_ms, 0, now_ms, ())
        self.codecs[0].joint.parse_settled(found, run(self.client, call))
        self.memory.refund(expected)

    @rule(subject=SUBJECTS)
    def reset(self, subject: str) -> None:
        codec = self.codecs[0]
        codec.reset_outcome(subject, run(self.client, codec.reset(subject, (), self.clock.now_ms())))
        self.let_lapse(subject, self.clock.now_ms())
        self.memory.reset(subject)

    def teardown(self) -> None:
        assert [key for key in self.client.scan_iter() if self.client.pttl(key) <= 0] == []


def numbers(decision: Decision) -> tuple[Any, ...]:
    """The numbers on which both backends must agree."""
    levels = list(decision.levels[: 2 * len(decision.plan.rates)])
    charged = decision.holder is not None
    return decision.decided_at_ms, decision.exceeded, levels, decision.held, bool(decision.lease_id), charged


@pytest.mark.timeout(600)
def test_scripts_equal_the_core(redis_server: RedisServer) -> None:
    """After any history, a real server returns the same integers as the memory backend."""
    with redis_server.client() as client:
        machine = type("Claims", (Claims,), {"client": client})
        run_state_machine_as_test(machine, settings=strategies.with_examples(60, stateful_step_count=40))
