"""Guarded limiters under load while Redis hangs, dies, loses its data, is full or refuses connections.

The limiters count as two workers, one with threads and one with tasks. AWX_CHAOS_SECONDS sets the duration.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from statistics import median
from typing import Any, Self

import pytest
from tests.chaos.conftest import WORKERS
from tests.chaos.load import PLAN, SECONDS, TOKENS, Control, Load, add_row, charged
from tests.chaos.proxy import FAULTS, Fault, late, proxied, whole
from tests.integration.conftest import stopped
from tests.machine import eventually
from tests.redis_servers import HOST, RedisServer, StartRedis, running_redis

from awx_ratelimit import Concurrency, Plan, Rate

BUDGET_MS = 50
OUTAGE_S = min(10.0, SECONDS / 2)
TTL_MS = 1_500
HELD = Plan("held", (TOKENS,), Concurrency(10, TTL_MS))
#: An open circuit breaker probes every two seconds; the rest is for a slow machine.
RECOVERY_S = 10.0
CAPACITY = 200
TIGHT = Plan("tight", (Rate("decade", CAPACITY, 315_360_000_000),))
ROOMY_SUBJECTS, TIGHT_SUBJECTS = ["a", "b", "c"], ["x", "y"]
#: The documented bound: capacity * (1 + actual / expected workers), plus one per worker.
MAX_TOKENS = CAPACITY * 2 + WORKERS

#: `make test` has these spoiled responses; the others end in the same errors of the connection.
QUICK = (late,)

pytestmark = pytest.mark.timeout(90 + 3 * SECONDS)
Open = Callable[..., dict[str, Any]]
#: In runs of at least this duration, the longest delay of the control bounds the delay of a claim.
_LONG_S = 30.0
_MOMENTS = 5


class Scene:
    """Guarded limiters under two loads, one of them far above its limit, a control, and a limiter that reads Redis."""

    def __init__(self, url: str, open_guarded: Open, open_limiters: Open, *, truth: str = "") -> None:
        self.limiters = open_guarded(url, budget_ms=BUDGET_MS)
        self.other = open_limiters(truth or url)["threads"]
        both = list(self.limiters.values())
        self.roomy, self.tight = Load(both, ROOMY_SUBJECTS), Load(both, TIGHT_SUBJECTS, TIGHT)
        #: The loads that ran after the outage.
        self.moments: list[Load] = []
        self.control = Control(self.limiters, BUDGET_MS)
        self._running = ExitStack()

    def __enter__(self) -> Self:
        for running in (self.control, self.roomy, self.tight):
            self._running.enter_context(running.running())
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def claims(self) -> int:
        return len(self.roomy.claims) + len(self.tight.claims)

    @property
    def failed(self) -> int:
        return len(self.roomy.failed()) + len(self.tight.failed())

    @property
    def most(self) -> int:
        """The largest number of tokens that one subject of the tight limit got."""
        return max(self.tight.granted().values())

    @property
    def slowest_ms(self) -> float:
        return max(self.roomy.slowest_ms(), self.tight.slowest_ms())

    @property
    def is_in_time(self) -> bool:
        """Whether claims were hardly later than the control: at most one claim in 10,000 was later.

        A run of seconds has no tail to compare, so a claim may be late by another budget there. In every run, the
        median claim that used up its budget was hardly later than the control at that moment.
        """
        if self.overdue_ms > BUDGET_MS / 4:
            return False
        late_ms = BUDGET_MS + self.control.worst_ms
        if SECONDS < _LONG_S:
            return self.slowest_ms <= late_ms + BUDGET_MS + 2 * self.control.worst_ms
        late = [claim for claim in (*self.roomy.claims, *self.tight.claims) if claim.took_ms > late_ms]
        return len(late) <= self.claims / 10_000 and self.slowest_ms <= late_ms + 2 * self.control.worst_ms

    @property
    def overdue_ms(self) -> float:
        """The median of how much later than the control the claims were that used up their budget."""
        waited = [claim for claim in (*self.roomy.claims, *self.tight.claims) if claim.took_ms > BUDGET_MS * 0.9]
        excess_ms = [claim.took_ms - BUDGET_MS - self.control.late_ms(claim) for claim in waited]
        return median(excess_ms or [0.0])

    def healed(self) -> bool:
        """Whether both guards use Redis again, and have replayed to it everything that they decided without it."""
        guards = [limiter.backend._fallback for limiter in self.limiters.values()]
        return all(
            guard.is_idle and not guard.reconciliation.is_pending and not guard._reconciling.is_busy for guard in guards
        )

    def recovers(self) -> bool:
        """Wait for `healed`, with claims that make the guards probe Redis."""
        return eventually(self._probe, expected=True, seconds=RECOVERY_S)

    def _probe(self) -> bool:
        for limiter in self.limiters.values():
            limiter.peek("probe", PLAN)
        return self.healed()

    def is_exact_again(self) -> tuple[bool, Counter[str], Counter[str]]:
        """Whether the guards healed, and how many claims of a short load were granted and charged by subject.

        If the machine stalls for longer than a budget, claims are decided twice. Then a new load is measured.
        """
        for _ in range(_MOMENTS):
            with self:
                self.recovers()
            # The last claims of the load may have been decided without Redis.
            healed = self.recovers()
            before, alone = self._owed(), self.decided_alone()
            moment = Load(list(self.limiters.values()), ROOMY_SUBJECTS)
            self.moments.append(moment)
            with moment.running():
                time.sleep(0.5)
            owed = self._owed() - before
            if self.decided_alone() == alone:
                break
        return healed, moment.granted(), owed

    @property
    def twice(self) -> int:
        """How many tokens were charged twice to the subjects of the roomy limit."""
        admitted = sum(load.granted().total() for load in (self.roomy, *self.moments))
        return self._owed().total() - admitted

    def decided_alone(self) -> list[tuple[int, int]]:
        """How often the guards decided without Redis."""
        guards = [limiter.backend._fallback for limiter in self.limiters.values()]
        return [(guard._outages, guard._decisions) for guard in guards]

    def _owed(self) -> Counter[str]:
        return Counter({subject: charged(self.other, subject) for subject in ROOMY_SUBJECTS})

    def waits(self) -> str:
        return (
            f"{self.claims:,} claims, {self.failed} failed, the slowest took {self.slowest_ms:.0f} ms of {BUDGET_MS} "
            f"({self.control})"
        )


@pytest.fixture
def server(start_redis: StartRedis) -> RedisServer:
    return start_redis()


def test_redis_hangs(server: RedisServer, open_guarded: Open, open_limiters: Open) -> None:
    """No claim fails or waits beyond its budget, the limit stays bounded, and is exact again afterwards."""
    outlast_hang(Scene(server.url, open_guarded, open_limiters), stopped(server), "Redis")


def outlast_hang(scene: Scene, hanging: AbstractContextManager[None], server: str) -> None:
    """Claim while the server hangs, and afterwards."""
    with scene:
        time.sleep(SECONDS / 4)
        hung_s = time.monotonic()
        with hanging:
            time.sleep(OUTAGE_S)
        on_s = time.monotonic()
        most = scene.most
    healed, granted, owed = scene.is_exact_again()

    before, during = scene.roomy.median_ms(0, hung_s), scene.roomy.median_ms(hung_s + OUTAGE_S / 2, on_s)
    add_row(
        f"SIGSTOP of {server} for {OUTAGE_S:g} s",
        f"{scene.waits()}; a claim took {before:.2f} ms before and {during:.2f} while the breaker was open; "
        f"{most} of {CAPACITY} tokens; exact afterwards",
        f"none fails, or waits longer than the budget plus the control's lateness; at most {MAX_TOKENS} tokens",
    )
    assert scene.failed == 0, scene.waits()
    assert scene.is_in_time is True, scene.waits()
    assert during < BUDGET_MS / 4, scene.waits()
    assert CAPACITY < most <= MAX_TOKENS, most
    assert healed is True, most
    assert owed == granted, most
    assert [charged(scene.other, subject, TIGHT) for subject in TIGHT_SUBJECTS] == [CAPACITY] * 2


@pytest.mark.full
def test_redis_restarts_empty(
    tmp_path_factory: pytest.TempPathFactory, open_guarded: Open, open_limiters: Open
) -> None:
    """After Redis lost its data, it gets the decisions of the outage and all leases, but not the lost usage."""
    with running_redis(tmp_path_factory.mktemp("first")) as first:
        scene = Scene(first.url, open_guarded, open_limiters)
        kept = [limiter.acquire("s", HELD) for limiter in scene.limiters.values() for _ in range(2)]
        scene.__enter__()
        time.sleep(SECONDS / 4)
        # On a machine that stalls, guards may have decided alone before. What they told this Redis is lost with it.
        told_before = any(decisions for _, decisions in scene.decided_alone())
        killed_s = time.monotonic()
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(SECONDS / 4)
    with running_redis(tmp_path_factory.mktemp("again"), port=first.port):
        back_s = time.monotonic()
        held = eventually(lambda: scene.other.peek("s", HELD).held, 4, RECOVERY_S)
        held_s = time.monotonic() - back_s
        healed = scene.recovers()
        scene.__exit__()
        known = sum(charged(scene.other, subject) for subject in ROOMY_SUBJECTS)
        decided = sum(scene.roomy.granted(killed_s).values())
        most, owed = scene.most, [charged(scene.other, subject, TIGHT) for subject in TIGHT_SUBJECTS]
        _, granted, exact = scene.is_exact_again()

    add_row(
        "SIGKILL of Redis, restart with loss",
        f"{scene.waits()}; {most} of {CAPACITY} tokens; 4 leases taken again after {held_s:.2f} s of a ttl of "
        f"{TTL_MS / 1000:g}",
        f"the lost charges, here {CAPACITY}, and the bound of an outage: at most {MAX_TOKENS + CAPACITY} tokens",
    )
    assert scene.failed == 0, scene.waits()
    assert scene.is_in_time is True, scene.waits()
    assert all(kept), scene.waits()
    assert CAPACITY < most <= MAX_TOKENS + CAPACITY, most
    assert owed == [CAPACITY] * 2 or told_before, most
    assert held == 4, most
    assert healed is True, most
    # Redis knows every decision since then, with and without it.
    assert known >= decided, (known, decided)
    assert exact == granted, (known, decided)


def test_redis_forgets_its_scripts(redis_server: RedisServer, open_limiters: Open) -> None:
    """Without a guard, every claim is granted and charged once."""
    limiters = open_limiters(redis_server.url)
    load, flushes, until_s = Load(list(limiters.values()), ROOMY_SUBJECTS), 0, time.monotonic() + SECONDS / 2
    with load.running(), redis_server.client() as client:
        while time.monotonic() < until_s:
            client.script_flush()
            flushes += 1
            time.sleep(0.005)

    owed = {subject: charged(limiters["threads"], subject) for subject in ROOMY_SUBJECTS}
    add_row(
        "SCRIPT FLUSH, bare",
        f"{flushes} times under {len(load.claims):,} claims: {len(load.failed())} failed, "
        f"{sum(owed.values()) - sum(load.granted().values())} over",
        "0 over, none fails",
    )
    assert load.failed() == []
    assert owed == dict(load.granted())
    assert flushes > 20
    assert len(load.claims) > 200


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=[pytest.mark.full] * (fault not in QUICK), id=fault.__name__) for fault in FAULTS],
)
def test_spoiled_responses(fault: Fault, server: RedisServer, open_guarded: Open, open_limiters: Open) -> None:
    """No claim fails or exceeds its budget; every token is charged, and those in flight at most twice."""
    with proxied(server.port) as proxy:
        scene = Scene(f"redis://{HOST}:{proxy.port}", open_guarded, open_limiters, truth=server.url)
        with scene:
            time.sleep(SECONDS / 8)
            proxy.fault = fault
            time.sleep(SECONDS / 4)
            eventually(lambda: proxy.spoiled > 5, expected=True, seconds=RECOVERY_S)
            proxy.fault = whole
        healed, granted, exact = scene.is_exact_again()
        twice, most = scene.twice, scene.most

    add_row(
        f"answers that are {fault.__name__.replace('_', ' ')}",
        f"{scene.waits()}; {proxy.spoiled} spoiled; {twice} tokens charged twice, none too few; "
        f"{most} of {CAPACITY} tokens",
        f"tokens never under-charged, those in flight at most twice; at most {MAX_TOKENS} tokens",
    )
    assert scene.failed == 0, scene.waits()
    assert scene.is_in_time is True, scene.waits()
    assert healed is True, scene.waits()
    assert 0 <= twice <= 3 * WORKERS * proxy.spoiled, twice
    assert most <= MAX_TOKENS, twice
    assert proxy.spoiled > 5, twice
    assert exact == granted


@pytest.mark.full
def test_redis_refuses_connections(server: RedisServer, open_guarded: Open, open_limiters: Open) -> None:
    """At `maxclients` each worker decides its local share, and Redis decides again when it accepts connections."""
    scene = Scene(server.url, open_guarded, open_limiters)
    with server.client() as client, scene:
        time.sleep(SECONDS / 4)
        client.config_set("maxclients", 1)
        # Close every connection but this one.
        client.client_kill_filter(_type="normal", skipme=True)
        shut_s = time.monotonic()
        time.sleep(SECONDS / 4)
        opened_s = time.monotonic()
        alone = {kind: limiter.health()["decided_without_backend"] for kind, limiter in scene.limiters.items()}
        client.config_set("maxclients", 100)
    healed, granted, owed = scene.is_exact_again()
    twice, most = scene.twice, scene.most

    before, during = scene.roomy.median_ms(0, shut_s), scene.roomy.median_ms((shut_s + opened_s) / 2, opened_s)
    add_row(
        "no connection is available (maxclients)",
        f"{scene.waits()}; a claim took {before:.2f} ms before and {during:.2f} while the breaker was open; "
        f"{twice} tokens charged twice, none too few; {most} of {CAPACITY} tokens",
        f"the bound of an outage: at most {MAX_TOKENS} tokens, those in flight charged at most twice",
    )
    assert scene.failed == 0, scene.waits()
    assert scene.is_in_time is True, scene.waits()
    assert healed is True, scene.waits()
    assert owed == granted, scene.waits()
    assert CAPACITY < most <= MAX_TOKENS, (alone, most)
    assert min(alone.values()) > 20, (alone, most)
    assert during < before, (alone, most)
    # Claims in flight when connections closed, or when the machine stalled for a budget, were decided here as well.
    late = sum(claim.took_ms > BUDGET_MS * 0.8 for load in (scene.roomy, *scene.moments) for claim in load.claims)
    assert 0 <= twice <= 3 * WORKERS * (1 + late), (twice, late)


@pytest.mark.full
def test_redis_is_full(server: RedisServer, open_guarded: Open, open_limiters: Open) -> None:
    """At `maxmemory` the guards decide claims without Redis, and leases are still renewed and released."""
    scene = Scene(server.url, open_guarded, open_limiters)
    # A busy machine may miss the budget of the guards for a whole ttl.
    holders = open_limiters(server.url)
    kept = [limiter.acquire("s", HELD) for limiter in holders.values() for _ in range(3)]
    with server.client() as client, scene:
        time.sleep(SECONDS / 8)
        client.config_set("maxmemory", 1)
        full_s = time.monotonic()
        time.sleep(max(2.5 * TTL_MS / 1000, SECONDS / 4))
        held = scene.other.peek("s", HELD).held
        for limiter, decision in zip(holders.values(), kept[::3], strict=True):
            limiter.release(decision)
        left = eventually(lambda: scene.other.peek("s", HELD).held, 4)
        full_s = time.monotonic() - full_s
        client.config_set("maxmemory", 0)
    healed, granted, owed = scene.is_exact_again()

    add_row(
        f"maxmemory reached for {full_s:.0f} s (noeviction)",
        f"{scene.waits()}; {held} of 6 leases of {TTL_MS / 1000:g} s were kept, {6 - left} of 2 that were released "
        f"ended; {scene.most} of {CAPACITY} tokens",
        f"leases neither lapse nor leak; the bound of an outage: at most {MAX_TOKENS} tokens",
    )
    assert scene.failed == 0, scene.waits()
    assert scene.is_in_time is True, scene.waits()
    assert held == 6, scene.waits()
    assert left == 4, scene.waits()
    assert healed is True, scene.most
    assert owed == granted, scene.most
    assert scene.most <= MAX_TOKENS, scene.most
