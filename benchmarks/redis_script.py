"""Server time of the scripts by INFO commandstats, and bytes per subject: ``python -m benchmarks.redis_script``.

A busy server receives pipelines of a hundred calls, so its caches stay warm, as under load. An idle server is woken
by each call. The control is a script that does nothing, with the same keys and arguments. A figure is the minimum of
several rounds. commandstats counts neither network nor client. The last answer is checked after each timing.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import redis
from tests.redis_servers import run, running_redis

from awx_ratelimit import Decision, Plan
from awx_ratelimit.backends.redis.codec import Codec
from awx_ratelimit.backends.redis.scripts import JOINT, Call
from awx_ratelimit.backends.remote.dialect import Renewal
from awx_ratelimit.backends.remote.pending_claims import PendingJoint, ReleasedLease
from awx_ratelimit.core.budget import Budget, Record
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.runtime.clock import WallClock

SUBJECTS = 2_000
BATCH = 50
ROUNDS = 7
PLAN = Plan.of("bench", per_minute=10**6, per_day=10**8, concurrent=10**6)
#: Other rates of the same names: every claim finds its limits in another arrangement.
OTHER = Plan.of("other", per_day=10**8, per_minute=10**6, per_hour=10**7, concurrent=10**6)
TIGHT = Plan.of("tight", per_minute=1, per_day=1, concurrent=10**6)
#: As multiples of a script that does nothing. In a batch: 5 us, where such a script takes 1.2.
TARGET, BATCH_TARGET, BYTES_TARGET = 6, 5 / 1.2, 200
FLOOR, ONE, IN_BATCH = "a script that does nothing", "one claim", f"one of {BATCH} claims of a call"


class Served(NamedTuple):
    """The server's time of one claim, and that of the control."""

    us: float
    control_us: float

    @property
    def times(self) -> float:
        """As a multiple of the control."""
        return self.us / self.control_us


class Bench(NamedTuple):
    """A server, a codec, and subjects with a lease each."""

    client: "redis.Redis"
    codec: Codec

    def claims(self, plan: Plan, first: int, number: int) -> list[tuple[str, Plan, int, int]]:
        """Claims of as many subjects, one each."""
        return [(f"key_{(first + n) % SUBJECTS}", plan, 1, self.codec.new_lease_id()) for n in range(number)]

    def begin(self, plan: Plan) -> None:
        """Every subject has been charged by `plan` once, and holds a lease."""
        self.client.flushall()
        for first in range(0, SUBJECTS, 100):
            run(self.client, self.codec.acquire(self.claims(plan, first, 100)))

    def us_per_call(self, calls: list[Call], busy: bool) -> float:
        """The server's time for each of `calls`."""
        self.client.config_resetstat()
        for first in range(0, len(calls), 100):
            pipeline = self.client.pipeline(transaction=False)
            for call in calls[first : first + 100]:
                send = pipeline if busy else self.client
                send.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            pipeline.execute()
        used: float = self.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
        return used

    def least(self, begin: Plan, make: Callable[[int], Call], number: int, *, busy: bool = True) -> float:
        """The least of some rounds, each from the same beginning."""
        rounds = []
        for _ in range(ROUNDS):
            self.begin(begin)
            rounds.append(self.us_per_call([make(n) for n in range(number)], busy))
        return min(rounds)


def served(client: "redis.Redis") -> dict[str, Served]:
    """The time of one claim of 2 rates and a slot, by the kind of its call."""
    bench = Bench(client, Codec("awx", os.urandom(16)))
    codec = bench.codec
    noop = client.script_load("return 0")
    client.script_load(JOINT.text)

    def one(plan: Plan) -> Callable[[int], Call]:
        return lambda n: codec.acquire(bench.claims(plan, n, 1))

    def batch(n: int) -> Call:
        return codec.acquire(bench.claims(PLAN, n * BATCH, BATCH))

    def nothing(n: int) -> Call:
        call = one(PLAN)(n)
        return call._replace(script=call.script._replace(sha=noop))

    def with_releases(number: int) -> Callable[[int], Call]:
        """Each call gives back the leases of the call before of the same subjects."""
        before: list[ReleasedLease] = []

        def call(n: int) -> Call:
            claims = bench.claims(PLAN, n % 2 * number, number)
            subjects = {subject for subject, *_ in claims}
            released = [lease for lease in before if lease[0] in subjects]
            before[:] = [lease for lease in before if lease[0] not in subjects]
            before.extend((subject, lease_id) for subject, _, _, lease_id in claims)
            return codec.acquire(claims, released)

        return call

    def jointly(n: int) -> Call:
        """A claim of a key, its account and the service, which gives back the leases of the call before."""
        budgets = Budget(f"key_{n % SUBJECTS}", PLAN), Budget("acme", PLAN, "account"), Budget("all", PLAN, "service")
        claim, lease_id = joint_claim(budgets, 1), codec.new_lease_id()
        released: list[tuple[Record, int]] = [(record, lease_id - 1) for record in claim.records[1:]]
        return codec.joint.acquire(
            [PendingJoint(claim.records[0], claim, (), lease_id)], released, None, WallClock.now_ms()
        )

    floor, floor_idle = (bench.least(PLAN, nothing, 2_000, busy=busy) for busy in (True, False))
    return {
        FLOOR: Served(floor, floor),
        ONE: Served(bench.least(PLAN, one(PLAN), 2_000), floor),
        "one claim, and the release of the lease before": Served(bench.least(PLAN, with_releases(1), 2_000), floor),
        "one claim that is refused": Served(bench.least(TIGHT, one(TIGHT), 2_000), floor),
        "one claim by another arrangement of limits": Served(bench.least(OTHER, one(PLAN), 2_000), floor),
        "one claim of three such budgets, and the release of the leases before": Served(
            bench.least(PLAN, jointly, 2_000), floor
        ),
        IN_BATCH: Served(bench.least(PLAN, batch, 40) / BATCH, floor),
        f"{IN_BATCH}, and the releases of the leases before": Served(
            bench.least(PLAN, with_releases(BATCH), 40) / BATCH, floor
        ),
        "nothing, on an idle server": Served(floor_idle, floor_idle),
        "one claim, on an idle server": Served(bench.least(PLAN, one(PLAN), 2_000, busy=False), floor_idle),
    }


def bytes_with_a_lease(client: "redis.Redis") -> int:
    """What the server keeps of one subject, by MEMORY USAGE. The answers are looked at too."""
    client.flushall()
    bench = Bench(client, Codec("awx", os.urandom(16)))
    codec = bench.codec
    claims = bench.claims(PLAN, 0, 1)
    (decision,) = codec.parse_decisions(claims, run(client, codec.acquire(claims)), HoldTimes(), lambda *_: codec)
    assert isinstance(decision, Decision)
    assert decision.usages[0].remaining == 10**6 - 1
    held = [(decision.subject, PLAN, decision.lease_id, decision.decided_at_ms)]
    assert codec.parse_renewals(held, run(client, codec.renew(held))) == [(held[0], Renewal.RENEWED)]
    used: int = client.memory_usage(codec.key(decision.subject))
    return used


def table(measured: dict[str, Served]) -> list[str]:
    """The lines of a table."""
    lines = [
        "",
        "### Server time",
        "",
        "By INFO commandstats; the least of rounds. Of an idle server each call wakes it.",
    ]
    lines += ["", "| 2 rates and a slot | us | times a script that does nothing |", "| --- | --- | --- |"]
    return lines + [f"| {name} | {one.us:.1f} | {one.times:.1f} |" for name, one in measured.items()]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as server, server.client() as client:
        measured = served(client)
        used = bytes_with_a_lease(client)
    for line in table(measured):
        print(line)
    for name, target in ((ONE, TARGET), (IN_BATCH, BATCH_TARGET)):
        print(f"\n{name}: at most {target:.1f} times is the target, {_met(measured[name].times, target)}.")
    print(
        f"\nA subject with 2 rates and an open lease: {used} bytes, target {BYTES_TARGET}: {_met(used, BYTES_TARGET)}."
    )


def _met(measured: float, target: float) -> str:
    return "met" if measured <= target else "NOT met"


if __name__ == "__main__":
    main()
