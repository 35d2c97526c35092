"""Redis Cluster: every method on every server, configuration errors, slots that move, and servers that fail."""

import logging
import os
import re
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from tests.integration.conftest import OpenLimiter
from tests.machine import eventually, timed
from tests.processes import free_port
from tests.redis_groups import Cluster, running_cluster
from tests.redis_servers import HOST, RedisServer, run

from awx_ratelimit import BackendUnavailable, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.backends.redis import RedisBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.core.budget import Budget, ScopedSubject
from awx_ratelimit.core.hold_times import HoldTimes
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.errors import BackendMisconfigured

PLAN = Plan("clustered", (Rate("day", 1_000, 86_400_000_000),), Concurrency(10))
SECRET = "s3cr3t-passw0rd"
BUDGET_MS = 100
SUBJECTS = [f"subject {number}" for number in range(60)]


def slot_of(limiter: Any, subject: str) -> int:
    return key_slot(limiter.backend._session.codec.key(subject))


def on(cluster: Cluster, limiter: Any, server: int) -> list[str]:
    """The subjects that belong to this primary."""
    return [subject for subject in SUBJECTS if cluster.owner(slot_of(limiter, subject)) == server]


def left(limiter: Any, subject: str) -> tuple[int, int]:
    """The free slots and tokens."""
    seen = limiter.peek(subject, PLAN)
    return seen.held, seen.usages[0].capacity - seen.usages[0].remaining


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """A server that hangs."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_every_method(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Every method works for subjects of all servers at once."""
    limiter = open_limiter(redis_cluster.url)
    held = [limiter.acquire(subject, PLAN, 5) for subject in SUBJECTS for _ in range(2)]
    before = {left(limiter, subject) for subject in SUBJECTS}
    for decision in held[::2]:
        limiter.give_back(decision)
        limiter.refund(decision)
    limiter.renew_leases()
    between = {left(limiter, subject) for subject in SUBJECTS}
    for subject in SUBJECTS:
        limiter.reset(subject)

    assert before == {(2, 10)}
    assert between == {(1, 5)}
    assert {left(limiter, subject) for subject in SUBJECTS} == {(1, 0)}
    assert limiter.health()["state"] == "ok"
    assert limiter.health()["leases"] == len(SUBJECTS)
    assert [len(on(redis_cluster, limiter, server)) > 5 for server in range(3)] == [True] * 3


def test_releases_are_sent(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Releases reach every server within a moment, without another claim."""
    limiter, other = open_limiter(redis_cluster.url), open_limiter(redis_cluster.url)
    for decision in [limiter.acquire(subject, PLAN) for subject in SUBJECTS for _ in range(9)]:
        limiter.give_back(decision)

    held = eventually(lambda: {left(other, subject)[0] for subject in SUBJECTS}, {0})
    assert held == {0}


def test_releases_while_a_server_hangs(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Releases for other servers wait for a server that hangs no longer than one time-out."""
    limiter, other = open_limiter(redis_cluster.url, timeout_ms=200), open_limiter(redis_cluster.url)
    hung, alive = on(redis_cluster, limiter, 0)[0], on(redis_cluster, limiter, 1)[0]
    many = Plan("many", (), Concurrency(1_000))
    kept = [_decided(limiter, subject, many) for subject in [hung] * 600 + [alive] * 600]

    with stopped(redis_cluster.primaries[0]):
        for decision in kept:
            limiter.give_back(decision)
        soon = eventually(lambda: other.peek(alive, many).held, 0)
    assert soon == 0
    assert eventually(lambda: other.peek(hung, many).held, 0) == 0


def _decided(limiter: Any, subject: str, plan: Plan) -> Decision:
    """A decision. A claim that timed out, as on a busy machine, is repeated; it holds no slot."""
    while True:
        with suppress(BackendUnavailable):
            decision: Decision = limiter.acquire(subject, plan)
            return decision


def test_script_flush(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Every method recovers by itself after SCRIPT FLUSH on one server."""
    limiter = open_limiter(redis_cluster.url)
    with redis_cluster.primaries[1].client() as client:

        def forgetful(verb: str, *args: Any) -> list[Any]:
            client.script_flush()
            return [getattr(limiter, verb)(subject, *args) for subject in SUBJECTS]

        decisions = forgetful("acquire", PLAN)
        client.script_flush()
        for decision in decisions:
            limiter.refund(decision)
        client.script_flush()
        limiter.renew_leases()
        assert [decision.allowed for decision in decisions] == [True] * len(SUBJECTS)
        assert {(seen.held, seen.usages[0].remaining) for seen in forgetful("peek", PLAN)} == {(1, 1_000)}
        client.script_flush()
        assert limiter.health()["state"] == "ok"


def test_replay(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Decisions from an outage are replayed to each subject's server, once."""
    limiter = open_limiter(redis_cluster.url)
    now_ms = limiter.acquire("the time", PLAN).decided_at_ms
    owed = [(subject, PLAN, [PLAN.rates[0].unit * 7], [now_ms]) for subject in SUBJECTS]

    decisions = limiter.backend.heal(owed, b"once")
    limiter.backend.heal([(subject, plan, debts, []) for subject, plan, debts, _ in owed], b"once")

    assert {left(limiter, subject) for subject in SUBJECTS} == {(1, 7)}
    assert [decision.subject for decision in decisions] == SUBJECTS


def test_connections(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Each server has one connection for claims, one for rare calls and one for maintenance."""
    clients = [server.client() for server in redis_cluster.primaries]
    before = [client.info("stats")["total_connections_received"] for client in clients]
    limiter = open_limiter(redis_cluster.url)
    for _ in range(3):
        for subject in SUBJECTS:
            limiter.reset(subject)
            limiter.give_back(limiter.acquire(subject, PLAN))
        limiter.renew_leases()

    opened = [client.info("stats")["total_connections_received"] for client in clients]
    for client in clients:
        client.close()
    assert [after - those for after, those in zip(opened, before, strict=True)] <= [6, 6, 6]


@pytest.mark.parametrize("protocol", [2, 3])
def test_any_server_names_the_others(redis_cluster: Cluster, open_limiter: OpenLimiter, protocol: int) -> None:
    """Servers in the URL that are down or hang are skipped."""
    down, alive = f"{HOST}:{free_port()}", f"{HOST}:{redis_cluster.primaries[2].port}"

    limiter = open_limiter(f"redis+cluster://{down},{alive}/0?protocol={protocol}")
    assert [limiter.acquire(subject, PLAN).allowed for subject in SUBJECTS] == [True] * len(SUBJECTS)


def test_hanging_server_is_skipped_for_the_map(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """The map is read within the time of a call, and claims for other servers are decided."""
    hangs, alive = redis_cluster.primaries[0], f"{HOST}:{redis_cluster.primaries[2].port}"
    knows = open_limiter(redis_cluster.url)
    others = on(redis_cluster, knows, 1) + on(redis_cluster, knows, 2)

    with stopped(hangs):
        limiter = open_limiter(f"redis+cluster://{HOST}:{hangs.port},{alive}", timeout_ms=900)
        assert [limiter.acquire(subject, PLAN).allowed for subject in others] == [True] * len(others)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one server with a password, and a user without permissions."""
    users = [f"helpless on >{SECRET} +@connection"]
    with running_cluster(tmp_path_factory.mktemp("cluster"), primaries=1, password=SECRET, users=users) as cluster:
        yield cluster


def test_permissions(locked: Cluster, open_limiter: OpenLimiter) -> None:
    """A user with exactly the permissions that the errors name can use every method."""
    url = f"redis+cluster://helpless:{SECRET}@{locked.places}"
    with pytest.raises(BackendMisconfigured) as error:
        open_limiter(url)
    rules = re.findall(r"[~+]\S+", str(error.value))
    with locked.primaries[0].client() as client:
        client.execute_command("ACL", "SETUSER", "helped", "reset", "on", f">{SECRET}", *rules)

    limiter = open_limiter(url.replace("helpless", "helped"))
    decision = limiter.acquire("s", PLAN)
    limiter.release(decision)
    limiter.refund(decision)
    limiter.reset("s")
    assert decision.allowed is True
    assert limiter.health()["state"] == "ok"


@pytest.mark.parametrize("credentials", ["", f":{SECRET}-not@", f"bob:{SECRET}@"])
def test_wrong_password(locked: Cluster, open_limiter: OpenLimiter, credentials: str) -> None:
    """A wrong password is BackendMisconfigured, and neither the error nor its cause contains a password."""
    with pytest.raises(BackendMisconfigured, match=r"it needs a password; write|; correct .*password in") as error:
        open_limiter(f"redis+cluster://{credentials}{locked.places}")

    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_tls(tmp_path_factory: pytest.TempPathFactory, open_limiter: OpenLimiter) -> None:
    """Every server of the cluster is reached over TLS."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), primaries=1, tls=True) as cluster:
        limiter = open_limiter(f"rediss+cluster://{cluster.places}?ssl_ca_certs={cluster.primaries[0].ca}")

        assert limiter.acquire("s", PLAN).allowed is True
        assert limiter.health()["state"] == "ok"


def test_no_cluster(redis_cluster: Cluster, redis_server: RedisServer, open_limiter: OpenLimiter) -> None:
    """A single server in a cluster's URL is an error, and so is a cluster's server in the URL of a single one."""
    with pytest.raises(BackendMisconfigured, match="it is a standalone server; write redis://"):
        open_limiter(f"redis+cluster://{HOST}:{redis_server.port}")
    with pytest.raises(BackendMisconfigured, match=r"it is a cluster node; write redis\+cluster://"):
        open_limiter(f"redis://{HOST}:{redis_cluster.primaries[0].port}")


def test_unreachable_cluster(open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture) -> None:
    """At the start it is a warning, because the cluster may come up later; a claim raises an error."""
    place = f"{HOST}:{free_port()}"
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        limiter = open_limiter(f"redis+cluster://:{SECRET}@{place}")

    with pytest.raises(BackendUnavailable, match=f"redis at {place}: "):
        limiter.acquire("s", PLAN)
    assert f"no decision yet: redis at {place}" in caplog.text
    assert SECRET not in caplog.text


def move(slot: int, source: Any, target: Any, others: list[Any]) -> None:
    """Assign a slot without keys to another server."""
    name = target.execute_command("CLUSTER", "MYID")
    for server in (target, source, *others):
        server.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)


def test_moved_slot(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """The claim is redirected and decided once; soon after, calls go to the right server."""
    limiter = open_limiter(redis_cluster.url)
    slot = slot_of(limiter, "mover")
    clients: list[Any] = [server.client() for server in redis_cluster.primaries]
    source = clients.pop(redis_cluster.owner(slot))
    limiter.reset("mover")
    before = _errors(source, "MOVED")
    move(slot, source, clients[0], clients[1:])

    seen = [left(limiter, "mover") for _ in range(20) if limiter.acquire("mover", PLAN).allowed]

    moved = _errors(source, "MOVED") - before
    limiter.reset("mover")
    with clients[0] as target:
        target.flushall()
    move(slot, clients[0], source, clients[1:])
    assert seen[0] == (1, 1)
    assert seen[9] == (10, 10)
    assert 1 <= moved <= 4


def _errors(server: "redis.Redis", name: str) -> int:
    """How often a server has returned this error."""
    stats: Any = server.info("errorstats").get(f"errorstat_{name}", "count=0")
    # Older versions of redis-py do not parse them.
    return int(stats.partition("=")[2] if isinstance(stats, str) else stats["count"])


@contextmanager
def migrating(cluster: Cluster, slot: int) -> Iterator[tuple[Any, Any]]:
    """A slot that is migrating from one server to another, and stays where it was in the end."""
    with (
        cluster.primaries[cluster.owner(slot)].client() as source,
        cluster.primaries[(cluster.owner(slot) + 1) % 3].client() as target,
    ):
        names: list[Any] = [client.execute_command("CLUSTER", "MYID") for client in (source, target)]
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
        try:
            yield source, target
        finally:
            for client in (target, source):
                client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


def test_migrating_key(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """Claims and releases find the key before and after it has moved. Refunds have to wait until its slot has moved."""
    limiter = open_limiter(redis_cluster.url, timeout_ms=1_500)
    slot = slot_of(limiter, "s")
    key = limiter.backend._session.codec.key("s")
    first = limiter.acquire("s", PLAN)
    with migrating(redis_cluster, slot) as (source, target):
        second = limiter.acquire("s", PLAN)
        port = target.info("server")["tcp_port"]
        source.execute_command("MIGRATE", HOST, port, key, 0, 1_000)
        held = [limiter.acquire("s", PLAN) for _ in range(8)]
        full = limiter.acquire("s", PLAN).allowed
        limiter.give_back(first)
        again = limiter.acquire("s", PLAN)
        with pytest.raises(BackendUnavailable):
            limiter.refund(second)
        limiter.renew_leases()
        seen, there = left(limiter, "s"), target.execute_command("ASKING") and target.exists(key)
        target.execute_command("ASKING")
        target.delete(key)

    assert [decision.allowed for decision in held] == [True] * 8
    assert full is False
    assert again.allowed is True
    assert seen == (10, 11)
    assert there == 1


@pytest.mark.parametrize("scope", [None, "login"])
def test_declared_claim_of_a_migrating_key(
    redis_cluster: Cluster, open_limiter: OpenLimiter, scope: str | None
) -> None:
    """The first declared claim of a record changes nothing until its key has moved; then it is granted."""
    limiter = open_limiter(redis_cluster.url, timeout_ms=400)
    keys, record = limiter.backend._session.codec.keys, ScopedSubject("s", scope) if scope else "s"
    moved = [keys.key(record), *([keys.index("s")] if scope else [])]

    def claim(cost: int, *, declared: bool) -> Decision:
        decision: Decision = limiter.claim_jointly(joint_claim((Budget("s", PLAN, scope),), cost, declared=declared))
        return decision

    limiter.give_back(claim(5, declared=False))
    with migrating(redis_cluster, slot_of(limiter, "s")) as (source, target):
        with pytest.raises(BackendUnavailable):
            claim(1, declared=True)
        before = claim(1, declared=False)
        source.execute_command("MIGRATE", HOST, target.info("server")["tcp_port"], "", 0, 1_000, "KEYS", *moved)
        after = claim(3, declared=True)
        for key in moved:
            target.execute_command("ASKING")
            target.delete(key)

    assert (before.held, before.usages[0].remaining) == (1, 1_000 - 6)
    assert (after.held, after.usages[0].remaining) == (2, 1_000 - 9)


def test_part_of_a_failed_claim_is_given_back(
    redis_cluster: Cluster, open_limiter: OpenLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """If a later server fails, what a claim has charged before is given back, even after its slot has moved."""
    limiter, patient = open_limiter(redis_cluster.url, timeout_ms=200), open_limiter(redis_cluster.url)
    first, later = on(redis_cluster, patient, 0)[0], on(redis_cluster, patient, 2)[0]
    budgets = Budget(first, PLAN), Budget(later, PLAN, "service")
    open_claim = patient.claim_jointly(joint_claim(budgets, 5, declared=True))
    with (
        migrating(redis_cluster, slot_of(patient, first)),
        stopped(redis_cluster.primaries[2]),
        caplog.at_level(logging.WARNING, "awx_ratelimit"),
    ):
        with pytest.raises(BackendUnavailable):
            limiter.claim_jointly(joint_claim(budgets, 7))
        tried = eventually(lambda: "leases cannot be released or renewed" in caplog.text, expected=True)

    given_back = eventually(lambda: left(patient, first), (1, 5))
    patient.give_back(open_claim)
    assert tried is True
    assert given_back == (1, 5)


def test_batch_that_empties_a_migrating_key(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """A claim is granted after a peek of the same call that leaves nothing of its record."""
    limiter = open_limiter(redis_cluster.url)
    codec, only_slots = limiter.backend._session.codec, Plan("slots", (), Concurrency(1))
    held = limiter.acquire("s", only_slots)
    asked = [("s", only_slots, 1, 0), ("s", only_slots, 1, codec.new_lease_id())]
    with migrating(redis_cluster, slot_of(limiter, "s")) as (source, _):
        reply = run(source, codec.acquire(asked, [("s", held.lease_id)]))

    decisions = codec.parse_decisions(asked, reply, HoldTimes(), lambda *_: None)
    assert [(decision.exceeded, decision.held) for decision in decisions] == [(0, 0), (0, 1)]


def test_tryagain(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """A replay that gets TRYAGAIN, because its two keys are on two servers, is repeated for the time of a call."""
    limiter = open_limiter(redis_cluster.url, timeout_ms=400)
    slot = slot_of(limiter, "s")
    owed: list[LocalUsage] = [("s", PLAN, [PLAN.rates[0].unit * 7], [])]
    limiter.acquire("s", PLAN)
    is_moving = pytest.raises(BackendUnavailable, match="the slot of this key is being moved")
    with migrating(redis_cluster, slot), timed() as watch, is_moving:
        limiter.backend.heal(owed, b"try")
    limiter.backend.heal(owed, b"try")

    assert 0.35 < watch.seconds < watch.limit(1.5)
    assert left(limiter, "s") == (1, 8)


def test_clusterdown(redis_cluster: Cluster, open_limiter: OpenLimiter) -> None:
    """CLUSTERDOWN fails only claims of that slot, and they succeed again afterwards."""
    limiter = open_limiter(redis_cluster.url)
    slot, others = slot_of(limiter, "s"), [subject for subject in SUBJECTS if subject != "s"]
    with redis_cluster.primaries[redis_cluster.owner(slot)].client() as client:
        client.execute_command("CLUSTER", "DELSLOTS", slot)
        with pytest.raises(BackendUnavailable, match=r"Hash slot not served|no server has slot"):
            limiter.acquire("s", PLAN)
        allowed = [limiter.acquire(subject, PLAN).allowed for subject in others]
        client.execute_command("CLUSTER", "ADDSLOTS", slot)

    back = eventually(lambda: _decides(limiter, "s"), expected=True)
    assert allowed == [True] * len(others)
    assert back is True


def _decides(limiter: Any, subject: str) -> bool:
    try:
        return bool(limiter.acquire(subject, PLAN).allowed)
    except BackendUnavailable:
        return False


def test_guard_per_server(redis_cluster: Cluster) -> None:
    """If a server hangs, only its claims are decided locally, and are replayed to it afterwards."""
    backend = RedisBackend.from_url(redis_cluster.url, timeout_ms=BUDGET_MS)
    limiter = Limiter(GuardedBackend(backend, budget_ms=BUDGET_MS))
    hung = on(redis_cluster, limiter.backend, 0)
    with stopped(redis_cluster.primaries[0]):
        with timed() as watch:
            during = [_timed_claim(limiter, subject) for _ in range(4) for subject in SUBJECTS]
        state = limiter.health()["state"]
    back = eventually(lambda: _is_its_own(limiter, hung), expected=True)
    known = eventually(lambda: {left(limiter, subject)[1] >= 4 for subject in hung}, {True})
    limiter.close()

    # On a busy machine another server may take the budget too, and then that claim is decided locally.
    local = {decision.subject for decision, took_ms in during if decision.plan is not PLAN}
    in_time = {decision.subject for decision, took_ms in during if decision.plan is not PLAN and took_ms < BUDGET_MS}
    assert [decision.allowed for decision, _ in during] == [True] * 4 * len(SUBJECTS)
    assert local >= set(hung)
    assert in_time <= set(hung)
    assert watch.seconds < watch.limit(2)
    assert state == "outage: limits are local"
    assert back is True
    assert known == {True}


def _timed_claim(limiter: Limiter, subject: str) -> tuple[Decision, float]:
    """A decision, and how many milliseconds it took."""
    began_s = time.monotonic()
    decision = limiter.acquire(subject, PLAN)
    return decision, (time.monotonic() - began_s) * 1000


def _is_its_own(limiter: Limiter, subjects: list[str]) -> bool:
    return {limiter.acquire(subject, PLAN).plan is PLAN for subject in subjects} == {True}
