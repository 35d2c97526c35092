"""Leases on a real server compared with a small model, on random histories."""

import os
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests import strategies
from tests.redis_servers import RedisServer, run

from awx_ratelimit import Concurrency, Decision, Plan
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.remote.dialect import Renewal
from awx_ratelimit.backends.remote.pending_claims import HeldLease
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.hold_times import HoldTimes

SUBJECTS = st.sampled_from(["a", "b"])
OWNERS = st.integers(0, 1)


@dataclass
class Group:
    """The leases of one owner for one subject: the latest end of each, and when all of them lapse."""

    expires_ms: int = 0
    ttl_ms: int = 0
    ends_ms: dict[int, float] = field(default_factory=dict)


def ends(held: HeldLease) -> float:
    """The latest end of a lease."""
    _, plan, _, granted_at_ms = held
    return granted_at_ms + plan.max_hold_ms if plan.max_hold_ms else float("inf")


@dataclass
class Model:
    """The leases of all owners."""

    groups: dict[tuple[Record, int], Group] = field(default_factory=dict)

    def held(self, subject: Record, now_ms: int) -> int:
        """The number of leases that have neither lapsed nor ended."""
        held = 0
        for key, group in list(self.groups.items()):
            if key[0] == subject:
                group.expires_ms = min(group.expires_ms, now_ms + group.ttl_ms)
                group.ends_ms = {lease: ends_ms for lease, ends_ms in group.ends_ms.items() if ends_ms > now_ms}
                if group.expires_ms <= now_ms or not group.ends_ms:
                    del self.groups[key]
                else:
                    held += len(group.ends_ms)
        return held

    def group(self, subject: Record, owner: int) -> Group:
        return self.groups.setdefault((subject, owner), Group())

    def has(self, subject: Record, owner: int, lease_id: int) -> bool:
        return lease_id in self.group(subject, owner).ends_ms

    def take(self, subject: Record, owner: int, held: HeldLease, now_ms: int) -> bool:
        """Take a lease where there is room and it may still be held."""
        _, plan, lease_id, _ = held
        assert plan.concurrency
        ends_ms = ends(held)
        if self.held(subject, now_ms) >= plan.slots or ends_ms <= now_ms:
            return False
        group = self.group(subject, owner)
        group.ends_ms[lease_id] = ends_ms
        self.live_on(group, plan.concurrency, now_ms)
        return True

    @staticmethod
    def live_on(group: Group, concurrency: Concurrency, now_ms: int) -> None:
        group.ttl_ms = max(group.ttl_ms, min(concurrency.ttl_ms, 2**32 - 1))
        group.expires_ms = now_ms + group.ttl_ms


class Leases(RuleBasedStateMachine):
    """Two processes and two subjects: leases are taken, retried, released, renewed, lost and forgotten."""

    client: "redis.Redis"

    @initialize(slots=st.lists(strategies.slots(), min_size=1, max_size=3))
    def begin(self, slots: list[Concurrency]) -> None:
        self.client.flushall()
        self.now_ms = 1_700_000_000_000
        self.model = Model()
        self.codecs = [Codec("awx", os.urandom(16)) for _ in range(2)]
        self.plans = [Plan("p", (), concurrency) for concurrency in slots]
        #: All leases that were ever granted, by owner.
        self.granted: list[list[HeldLease]] = [[], []]

    def ask(self, owner: int, subject: Record, plan: Plan, lease_id: int) -> Decision:
        codec, asked = self.codecs[owner], [(subject, plan, 1, lease_id)]
        reply = run(self.client, codec.acquire(asked, (), self.now_ms))
        (answer,) = codec.parse_decisions(asked, reply, HoldTimes(), lambda *_: codec)
        assert isinstance(answer, Decision)
        return answer

    @rule(owner=OWNERS, subject=SUBJECTS, choice=st.integers(0, 2))
    def take(self, owner: int, subject: Record, choice: int) -> None:
        plan, lease_id = self.plans[choice % len(self.plans)], self.codecs[owner].new_lease_id()
        answer = self.ask(owner, subject, plan, lease_id)
        held = subject, plan, lease_id, self.now_ms
        taken = self.model.take(subject, owner, held, self.now_ms)
        assert bool(answer.lease_id) == taken
        assert answer.held == self.model.held(subject, self.now_ms)
        assert bool(answer.exceeded) == (not taken and answer.held >= plan.slots)
        if taken:
            self.granted[owner].append(held)

    @precondition(lambda self: any(self.granted))
    @rule(owner=OWNERS, number=st.integers(0, 20))
    def take_again(self, owner: int, number: int) -> None:
        if not self.granted[owner]:
            return
        subject, plan, lease_id, _ = self.granted[owner][number % len(self.granted[owner])]
        answer = self.ask(owner, subject, plan, lease_id)
        held = self.model.held(subject, self.now_ms)
        taken = self.model.has(subject, owner, lease_id) or self.model.take(
            subject, owner, (subject, plan, lease_id, self.now_ms), self.now_ms
        )
        assert bool(answer.lease_id) == taken
        assert answer.held == self.model.held(subject, self.now_ms)
        assert held <= answer.held

    @rule(owner=OWNERS, subject=SUBJECTS, choice=st.integers(0, 2))
    def look(self, owner: int, subject: Record, choice: int) -> None:
        answer = self.ask(owner, subject, self.plans[choice % len(self.plans)], 0)
        assert answer.lease_id == 0
        assert answer.held == self.model.held(subject, self.now_ms)

    @rule(owner=OWNERS, numbers=st.lists(st.integers(0, 20), max_size=3))
    def give_back(self, owner: int, numbers: list[int]) -> None:
        granted = self.granted[owner]
        given = [granted[number % len(granted)] for number in numbers if granted]
        reply = run(self.client, self.codecs[owner].acquire((), [(lease[0], lease[2]) for lease in given], self.now_ms))
        for subject, _, lease_id, _ in given:
            self.model.held(subject, self.now_ms)
            self.model.group(subject, owner).ends_ms.pop(lease_id, None)
        assert reply == b""

    @rule(owner=OWNERS, numbers=st.lists(st.integers(0, 20), max_size=6, unique=True), settled=st.integers(0, 20))
    def renew(self, owner: int, numbers: list[int], settled: int) -> None:
        granted = self.granted[owner]
        held = list(
            {lease[2]: lease for lease in (granted[number % len(granted)] for number in numbers if granted)}.values()
        )
        settled_below = granted[settled % len(granted)][2] if granted else 0
        codec = self.codecs[owner]
        renewals = codec.parse_renewals(held, run(self.client, codec.renew(held, settled_below, self.now_ms)))
        assert {lease[2]: renewal for lease, renewal in renewals} == self.renewed(owner, held, settled_below)

    def renewed(self, owner: int, held: list[HeldLease], settled_below: int) -> dict[int, Renewal]:
        answers = {}
        for subject in {lease[0] for lease in held}:
            listed = [lease for lease in held if lease[0] == subject]
            self.model.held(subject, self.now_ms)
            group = self.model.group(subject, owner)
            ids = {lease[2] for lease in listed}
            group.ends_ms = {key: ends for key, ends in group.ends_ms.items() if key in ids or key >= settled_below}
            for lease in listed:
                there = lease[2] in self.model.group(subject, owner).ends_ms
                if there:
                    assert lease[1].concurrency
                    self.model.live_on(self.model.group(subject, owner), lease[1].concurrency, self.now_ms)
                taken = not there and self.model.take(subject, owner, lease, self.now_ms)
                gone = Renewal.ENDED if ends(lease) <= self.now_ms else Renewal.LOST
                answers[lease[2]] = Renewal.RENEWED if there else Renewal.TAKEN_AGAIN if taken else gone
            group = self.model.group(subject, owner)
            group.expires_ms = self.now_ms + group.ttl_ms
        return answers

    @rule(ms=st.sampled_from([0, 1, 4_999, 5_000, 999, 1_000, 29_999, 30_000, -1, -1_000, -100_000, 2**32 - 1]))
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms


@pytest.mark.timeout(600)
def test_leases_equal_the_model(redis_server: RedisServer) -> None:
    """After any history, the server and the model hold the same leases."""
    with redis_server.client() as client:
        machine = type("Leases", (Leases,), {"client": client})
        run_state_machine_as_test(machine, settings=strategies.with_examples(60, stateful_step_count=40))
