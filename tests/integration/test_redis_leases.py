"""A slot lives as long as its holder: a thread renews it, and without a holder it lapses."""

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import OpenLimiter
from tests.machine import eventually, timed
from tests.redis_servers import RedisServer

from awx_ratelimit import Concurrency, Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.remote.sent_claims import SentClaims
from awx_ratelimit.testing import ManualClock

#: The shortest that a plan may have, and for how long leases of it are held.
TTL_MS = 1_000
HELD_SECONDS = float(os.environ.get("AWX_LEASE_SECONDS", "3"))
SHORT = Plan("short", (), Concurrency(100, ttl_ms=TTL_MS))
LONG = Plan("long", (), Concurrency(100))
ONE = Plan("one", (), Concurrency(1))


@pytest.fixture
def other(redis_server: RedisServer) -> Any:
    """Another process, in effect: what it sees is what the server has."""
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    yield limiter
    limiter.close()


def test_a_thread_renews_leases(
    redis_server: RedisServer, open_limiters: Callable[..., dict[str, Any]], other: Limiter
) -> None:
    """Leases of threads and tasks outlive their ttl, also while the event loop is blocked."""
    limiters = open_limiters(redis_server.socket_url) | {"blocked": open_limiters(redis_server.socket_url)["tasks"]}
    kept = [limiter.acquire(kind, SHORT) for kind, limiter in limiters.items()]
    over = threading.Event()
    blocked = limiters["blocked"].portal.start_task_soon(over.wait)

    seen, until_s = set(), time.monotonic() + HELD_SECONDS
    while time.monotonic() < until_s:
        seen.add(tuple(other.peek(kind, SHORT).held for kind in limiters))
    over.set()

    assert seen == {(1, 1, 1)}
    assert len(kept) == 3
    assert blocked.result() is True


def test_slots_of_a_killed_process_lapse(redis_server: RedisServer, other: Limiter) -> None:
    """Its slots are free again within the ttl."""
    command = [sys.executable, "-m", "tests.integration.redis_holder", redis_server.socket_url, "s", "3", str(TTL_MS)]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        taken = holder.stdout.readline()
        held = other.peek("s", SHORT).held
        holder.kill()

    with timed() as watch:
        left = eventually(lambda: other.peek("s", SHORT).held, 0)
    assert taken == b"3\n"
    assert held == 3
    assert left == 0
    assert watch.seconds < watch.limit(TTL_MS / 1000 + 0.2)


def test_a_collected_decision_is_not_renewed(
    redis_server: RedisServer, open_limiters: Callable[..., dict[str, Any]], other: Limiter
) -> None:
    """Its slot lapses without a release."""
    limiters = open_limiters(redis_server.socket_url)
    kept = [limiter.acquire("kept", SHORT) for limiter in limiters.values()]
    lost = [limiter.acquire("lost", SHORT) for limiter in limiters.values()]
    opened = [limiter.health()["leases"] for limiter in limiters.values()]

    del lost
    gc.collect()

    left = eventually(lambda: other.peek("lost", SHORT).held, 0)
    still_open = [limiter.health()["leases"] for limiter in limiters.values()]
    assert opened == [2, 2]
    assert left == 0
    assert still_open == [1, 1]
    assert other.peek("kept", SHORT).held == 2
    assert len(kept) == 2


def test_lost_leases_are_taken_again(redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter) -> None:
    """The next renewal after FLUSHALL enters them again, and they can be released."""
    limiter = open_limiter(redis_server.socket_url)
    kept = [limiter.acquire("s", LONG) for _ in range(3)]
    with redis_server.client() as client:
        client.flushall()

    limiter.renew_leases()
    held = other.peek("s", LONG).held
    for decision in kept:
        limiter.release(decision)

    assert held == 3
    assert limiter.health()["lost_leases"] == 0
    assert eventually(lambda: other.peek("s", LONG).held, 0) == 0


def test_the_thread_takes_lost_leases_again(
    redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter
) -> None:
    """The maintenance thread enters lost leases again within a third of the ttl."""
    limiter = open_limiter(redis_server.socket_url)
    kept = limiter.acquire("s", SHORT)
    with redis_server.client() as client:
        client.flushall()

    assert eventually(lambda: other.peek("s", SHORT).held, 1) == 1
    assert kept.allowed is True


def test_a_lost_lease_is_counted_and_logged(
    redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease whose slot another process has is counted and logged once; its late release frees nothing."""
    limiter = open_limiter(redis_server.socket_url)
    lost = limiter.acquire("s", ONE)
    with redis_server.client() as client:
        client.flushall()
    taken = other.acquire("s", ONE)

    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        limiter.renew_leases()
        limiter.renew_leases()
    health = limiter.health()
    limiter.release(lost)
    again = limiter.acquire("s", ONE)

    assert taken.allowed is True
    assert health["lost_leases"] == 1
    assert health["leases"] == 0
    assert again.allowed is False
    assert [record.message for record in caplog.records] == [
        f"a lease was lost on redis at {redis_server.socket}, and its slot taken by another"
    ]


def test_max_hold_ms_ends_a_lease(redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter) -> None:
    """Renewals do not extend a lease beyond `max_hold_ms`, and it does not count as lost."""
    plan = Plan("bounded", (), Concurrency(1, max_hold_ms=300))
    limiter = open_limiter(redis_server.socket_url)
    kept = limiter.acquire("s", plan)

    def held() -> int:
        limiter.renew_leases()
        return other.peek("s", plan).held

    ended = eventually(held, 0)
    limiter.renew_leases()
    health = limiter.health()
    taken = other.acquire("s", plan)
    limiter.release(kept)
    again = limiter.acquire("s", plan)

    assert ended == 0
    assert health["lost_leases"] == 0
    assert health["leases"] == 0
    assert taken.allowed is True
    assert again.allowed is False


def test_a_renewal_ends_leases_with_a_lost_release(
    redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter
) -> None:
    """The lease ends although its subject has other leases that are renewed."""
    limiter = open_limiter(redis_server.socket_url)
    kept, forgotten = limiter.acquire("s", LONG), limiter.acquire("s", LONG)
    # What a release does, but for the sending.
    limiter.backend._session.leases.lose("s", forgotten.lease_id)

    limiter.renew_leases()

    assert other.peek("s", LONG).held == 1
    assert kept.allowed is True


def test_a_lease_of_the_longest_ttl_is_released_promptly(
    redis_server: RedisServer, open_limiter: OpenLimiter, other: Limiter
) -> None:
    """The maintenance thread does not wait for a third of the ttl."""
    plan = Plan("longest", (), Concurrency(1, ttl_ms=2**52))
    limiter = open_limiter(redis_server.socket_url)

    limiter.give_back(limiter.acquire("s", plan))

    assert eventually(lambda: other.peek("s", plan).held, 0) == 0


@pytest.fixture
def clock() -> ManualClock:
    """The time of claims and renewals alike."""
    return ManualClock(1_700_000_000_000)


def busy(limiter: Any, clock: ManualClock) -> int:
    """Slots that are in use besides, where somebody uses a slot of the subject now and then, until a ttl has passed."""
    for _ in range(5):
        clock.advance(TTL_MS // 3)
        limiter.release(limiter.acquire("s", SHORT))
        limiter.renew_leases()
    return int(limiter.acquire("s", SHORT).held) - 1


def test_a_collected_decision_lapses_beside_others(
    redis_server: RedisServer, open_limiter: OpenLimiter, clock: ManualClock
) -> None:
    """It lapses although the process renews other leases of the same subject."""
    limiter = open_limiter(redis_server.socket_url, clock=clock)
    before = [limiter.acquire("s", SHORT).held for _ in range(2)]
    gc.collect()

    assert before == [1, 2]
    assert busy(limiter, clock) == 0


def test_a_claim_decided_after_its_timeout_lapses(
    redis_server: RedisServer, open_limiter: OpenLimiter, clock: ManualClock
) -> None:
    """Its release may reach the server first, on another connection; the slot is free after the ttl."""
    limiter = open_limiter(redis_server.socket_url, clock=clock)
    session = limiter.backend._session
    server = session.route.find_server(b"")
    late = SentClaims(session, server, [session.new_claim("s", SHORT, 1)])
    late.fail(TimeoutError())
    limiter.acquire("another, which takes the release along", LONG)
    # The thread may be sending the release, too; it is to be there before the claim.
    limiter.backend._maintenance._thread.stop(5)
    Connection(server).run(late.calls)

    before = limiter.peek("s", SHORT).held
    assert before == 1
    assert busy(limiter, clock) == 0
