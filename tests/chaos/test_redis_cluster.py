"""A cluster under load while its slots move and its servers are killed.

AWX_CHAOS_SECONDS sets the duration of the load.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from tests.chaos.load import PLAN, SECONDS, Claim, Load, Pings, add_row, charged
from tests.machine import eventually
from tests.redis_groups import HASTY_MS, Cluster, running_cluster
from tests.redis_servers import HOST, RedisServer

SUBJECTS = [f"subject {number}" for number in range(24)]
TIMEOUT_MS = 1_000
#: The time for the others to declare a server down, vote, and promote its replica.
BACK_S = 15.0
#: The longest duration of a claim whose own server works, apart from delays of the machine.
SOON_MS = TIMEOUT_MS / 5
#: How long a slot is half moved, or a server hangs: longer than the time-out of a claim.
OUTLASTS_S = 1.5 * TIMEOUT_MS / 1000

pytestmark = pytest.mark.timeout(90 + 2 * SECONDS)


def _slot(limiter: Any, subject: str) -> int:
    return key_slot(limiter.backend._session.codec.key(subject))


def test_slots_move(redis_cluster: Cluster, open_limiters: Callable[..., dict[str, Any]]) -> None:
    """While slots and their keys move between servers, every claim is granted once and in time."""
    limiters = list(open_limiters(redis_cluster.url, timeout_ms=TIMEOUT_MS).values())
    owners = {_slot(limiters[0], name): redis_cluster.owner(_slot(limiters[0], name)) for name in SUBJECTS}
    clients = [server.client() for server in redis_cluster.primaries]
    pinged = [server.client() for server in redis_cluster.primaries]
    pings = Pings(pinged)
    load, moves, until_s = Load(limiters, SUBJECTS), 0, time.monotonic() + SECONDS

    with pings.running(), load.running():
        while time.monotonic() < until_s or moves % (3 * len(owners)):
            for slot, owner in owners.items():
                # The first moves stay half done for longer than a time-out: claims must follow ASK to be granted.
                halfway_s = 0.004 if moves else OUTLASTS_S
                _migrate(slot, clients, owner, owner := (owner + 1) % 3, halfway_s)
                owners[slot], moves = owner, moves + 1

    redirects = {name: sum(_count(client, name) for client in clients) for name in ("MOVED", "ASK", "TRYAGAIN")}
    for client in (*clients, *pinged):
        client.close()
    owed = {name: charged(limiters[0], name) for name in SUBJECTS}
    add_row(
        "slots of a cluster move",
        f"{moves:,} moves under {len(load.claims):,} claims, {len(load.failed())} failed; servers said "
        f"{', '.join(f'{name} {times:,} times' for name, times in redirects.items())}; "
        f"the slowest claim took {load.slowest_ms():.0f} ms of {TIMEOUT_MS} (a ping {pings.worst_ms:.0f} ms)",
        "0 over, none fails",
    )
    assert load.failed() == []
    assert owed == dict(load.granted())
    assert redirects["MOVED"] > 10
    assert redirects["ASK"] > 10
    assert load.slowest_ms() < TIMEOUT_MS + 2 * pings.worst_ms


def _migrate(slot: int, servers: Sequence[Any], source: int, target: int, halfway_s: float) -> None:
    """Move a slot and its keys one by one, as redis-cli does, and assign the slot `halfway_s` after the last key."""
    names = [server.execute_command("CLUSTER", "MYID") for server in servers]
    port = servers[target].info("server")["tcp_port"]

    def tell(server: int, *words: Any) -> Any:
        return servers[server].execute_command(*words)

    tell(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    # Slow enough for claims for new subjects, and for moved ones, to come in between.
    while keys := tell(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        time.sleep(0.002)
        tell(source, "MIGRATE", HOST, port, "", 0, 5_000, "KEYS", *keys)
    time.sleep(halfway_s)
    for server in (target, source, 3 - source - target):
        tell(server, "CLUSTER", "SETSLOT", slot, "NODE", names[target])


def _count(server: "redis.Redis", name: str) -> int:
    """How often the server has returned this error."""
    return int(server.info("errorstats").get(f"errorstat_{name}", {"count": 0})["count"])


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries. A replica of the first one takes over in a second or two."""
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, replicas=1, node_timeout_ms=2 * HASTY_MS) as cluster:
        yield cluster


def test_dead_server_fails_only_its_own_claims(
    cluster: Cluster, redis_server: RedisServer, open_limiters: Callable[..., dict[str, Any]]
) -> None:
    """While one server is down, claims for the others succeed as before; its own resume only if it has a replica."""
    limiters = open_limiters(cluster.url, timeout_ms=TIMEOUT_MS)
    both = list(limiters.values())
    # One load per server: a thread that waits for one server makes no claims for another.
    loads = [Load(both, names) for names in _subjects_of_each(cluster, both[0])]
    for limiter in both:
        # Open all connections first.
        [limiter.acquire(name, PLAN) for name in SUBJECTS]
    # How late claims and servers are on this machine when nothing fails.
    control = Load(list(open_limiters(redis_server.url, timeout_ms=TIMEOUT_MS).values()), SUBJECTS)

    with ExitStack() as running:
        pings = Pings([running.enter_context(server.client()) for server in cluster.primaries[1:]])
        running.enter_context(control.running())
        running.enter_context(pings.running())
        for load in loads:
            running.enter_context(load.running())
        time.sleep(SECONDS / 8)
        os.kill(cluster.primaries[0].pid, signal.SIGSTOP)
        hung_s = time.monotonic()
        time.sleep(max(OUTLASTS_S, SECONDS / 8))
        os.kill(cluster.primaries[0].pid, signal.SIGKILL)
        gone_s = time.monotonic()
        back = eventually(lambda: _granted(loads[0], gone_s), expected=True, seconds=BACK_S)
        back_s = time.monotonic()
        os.kill(cluster.primaries[2].pid, signal.SIGKILL)
        killed_s = time.monotonic()
        time.sleep(SECONDS / 4)

    others = [*loads[1].claims, *(claim for claim in loads[2].claims if claim.ended_s < killed_s)]
    gone = [claim for claim in loads[2].claims if claim.began_s > killed_s]
    slowest_ms, late_ms = max(claim.took_ms for claim in others), max(control.slowest_ms(), pings.worst_ms)
    during = sum(hung_s < claim.began_s < gone_s for claim in others)
    failed, unavailable = ([claim for claim in those if claim.error] for those in (others, gone))
    add_row(
        "a server of a cluster hangs and is killed",
        f"its claims succeed again after {back_s - hung_s:.2f} s, on its replica; of {len(others):,} claims for other "
        f"servers {len(failed)} failed, and the slowest took {slowest_ms:.0f} ms (the control {late_ms:.0f} ms); "
        f"without a replica all its {len(gone)} claims fail",
        "claims for other servers do not fail",
    )
    assert back
    assert failed == [], slowest_ms
    assert slowest_ms < SOON_MS + 2 * late_ms, slowest_ms
    assert unavailable == gone, slowest_ms
    assert during > 100
    assert len(gone) > 10
    assert max(load.slowest_ms() for load in loads) < 2.5 * TIMEOUT_MS + 2 * late_ms


def _subjects_of_each(cluster: Cluster, limiter: Any) -> list[list[str]]:
    """The subjects by server."""
    owner = {name: cluster.owner(_slot(limiter, name)) for name in SUBJECTS}
    return [[name for name in SUBJECTS if owner[name] == server] for server in range(3)]


def _granted(load: Load, since_s: float) -> bool:
    """Whether the last five claims began after `since_s` and were granted."""
    lately: list[Claim] = load.claims[-5:]
    return len(lately) == 5 and all(claim.began_s > since_s and not claim.error for claim in lately)
