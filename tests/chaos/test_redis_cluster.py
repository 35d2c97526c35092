"""A cluster whose slots move, and whose servers are killed, under load: no other claim notices, and none is lost.

AWX_CHAOS_SECONDS is for how long the load lasts.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from tests.chaos.load import PLAN, SECONDS, Claim, Load, charged, say
from tests.redis_groups import HASTY_MS, Cluster, running_cluster
from tests.redis_servers import HOST
from tests.servers.harness import eventually

SUBJECTS = [f"subject {number}" for number in range(24)]
TIMEOUT_MS = 1_000
#: The others hold a server for down, vote, and a replica takes its slots.
BACK_S = 15.0
#: What a claim may take on this machine, whatever other servers do.
SOON_MS = TIMEOUT_MS / 2

pytestmark = pytest.mark.timeout(90 + 2 * SECONDS)


def _slot(limiter: Any, subject: str) -> int:
    return key_slot(limiter.backend._session.codec.key(subject))


def test_no_claim_is_lost_or_charged_twice_while_slots_move(
    redis_cluster: Cluster, open_limiters: Callable[..., dict[str, Any]]
) -> None:
    """Slots go round the servers with all their keys: every claim is granted once, within its time."""
    limiters = list(open_limiters(redis_cluster.url, timeout_ms=TIMEOUT_MS).values())
    owners = {_slot(limiters[0], name): redis_cluster.owner(_slot(limiters[0], name)) for name in SUBJECTS}
    clients = [server.client() for server in redis_cluster.primaries]
    load, moves, until_s = Load(limiters, SUBJECTS), 0, time.monotonic() + SECONDS

    with load.running():
        while time.monotonic() < until_s or moves % (3 * len(owners)):
            for slot, owner in owners.items():
                _migrate(slot, clients, owner, owner := (owner + 1) % 3)
                owners[slot], moves = owner, moves + 1

    told = {name: sum(_count(client, name) for client in clients) for name in ("MOVED", "ASK", "TRYAGAIN")}
    for client in clients:
        client.close()
    owed = {name: charged(limiters[0], name) for name in SUBJECTS}
    say(
        "slots of a cluster move",
        f"{moves:,} moves under {len(load.claims):,} claims, {len(load.failed())} failed; servers said "
        f"{', '.join(f'{name} {times:,} times' for name, times in told.items())}; "
        f"the slowest claim took {load.slowest_ms():.0f} ms of {TIMEOUT_MS}",
        "0 over, none fails",
    )
    assert (load.failed(), owed) == ([], dict(load.granted()))
    assert (told["MOVED"] > 10, told["ASK"] > 10, load.slowest_ms() < TIMEOUT_MS) == (True, True, True)


def _migrate(slot: int, servers: Sequence[Any], source: int, target: int) -> None:
    """Move a slot and its keys, one by one, as an operator's tool does."""
    names = [server.execute_command("CLUSTER", "MYID") for server in servers]
    port = servers[target].info("server")["tcp_port"]

    def tell(server: int, *words: Any) -> Any:
        return servers[server].execute_command(*words)

    tell(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    # Some claims of new subjects, and of those that were moved, come meanwhile.
    while keys := tell(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        time.sleep(0.002)
        tell(source, "MIGRATE", HOST, port, "", 0, 5_000, "KEYS", *keys)
    time.sleep(0.004)
    for server in (target, source, 3 - source - target):
        tell(server, "CLUSTER", "SETSLOT", slot, "NODE", names[target])


def _count(server: "redis.Redis", name: str) -> int:
    """How often a server has answered so."""
    return int(server.info("errorstats").get(f"errorstat_{name}", {"count": 0})["count"])


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries, of which the first has a replica that takes over in a second or two."""
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, replicas=1, node_timeout_ms=2 * HASTY_MS) as cluster:
        yield cluster


def test_a_server_that_is_gone_takes_only_its_own_claims_with_it(
    cluster: Cluster, open_limiters: Callable[..., dict[str, Any]]
) -> None:
    """While one hangs and is killed the others decide as ever; with a replica its claims go on, without they do not."""
    limiters = list(open_limiters(cluster.url, timeout_ms=TIMEOUT_MS).values())
    owner = {name: cluster.owner(_slot(limiters[0], name)) for name in SUBJECTS}
    for limiter in limiters:
        # Connections are opened before anything happens.
        [limiter.acquire(name, PLAN) for name in SUBJECTS]
    load = Load(limiters, SUBJECTS)

    with load.running():
        time.sleep(SECONDS / 8)
        os.kill(cluster.primaries[0].pid, signal.SIGSTOP)
        hung_s = time.monotonic()
        time.sleep(SECONDS / 8)
        os.kill(cluster.primaries[0].pid, signal.SIGKILL)
        back = eventually(lambda: _granted(load, owner, 0, hung_s + SECONDS / 8), expected=True, seconds=BACK_S)
        back_s = time.monotonic()
        os.kill(cluster.primaries[2].pid, signal.SIGKILL)
        killed_s = time.monotonic()
        time.sleep(SECONDS / 4)

    others = [claim for claim in load.claims if owner[claim.subject] == 1]
    others += [claim for claim in load.claims if owner[claim.subject] == 2 and claim.ended_s < killed_s]
    gone = [claim for claim in load.claims if owner[claim.subject] == 2 and claim.began_s > killed_s]
    slowest_ms = max(claim.ended_s - claim.began_s for claim in others) * 1000
    failed, unavailable = ([claim for claim in those if claim.error] for those in (others, gone))
    say(
        "a server of a cluster hangs and is killed",
        f"its claims go on after {back_s - hung_s:.2f} s, at its replica; meanwhile of {len(others):,} of the others "
        f"{len(failed)} failed, and the slowest took {slowest_ms:.0f} ms; without a replica its {len(gone)} all fail",
        "it takes no other's claims with it",
    )
    assert back
    assert (failed, slowest_ms < SOON_MS, unavailable) == ([], True, gone)
    assert (len(others) > 100, len(gone) > 10) == (True, True)
    assert [claim for claim in load.claims if claim.ended_s - claim.began_s > 2.5 * TIMEOUT_MS / 1000] == []


def _granted(load: Load, owner: dict[str, int], server: int, since_s: float) -> bool:
    """Whether the last five claims of a server, sent since then, were granted."""
    lately: list[Claim] = [claim for claim in load.claims if owner[claim.subject] == server][-5:]
    return len(lately) == 5 and all(claim.began_s > since_s and not claim.error for claim in lately)
