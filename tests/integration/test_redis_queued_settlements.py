"""Settlements that nobody waits for travel with the next call to a real Redis."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from tests.machine import eventually
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import (
    AsyncRedisBackend,
    BackendUnavailable,
    Caller,
    Decision,
    Gate,
    GuardedBackend,
    Limiter,
    Plan,
    PlanTable,
    RedisBackend,
)
from awx_ratelimit.core.settlement import NOTHING

TEN = Plan.of("ten", per_day=10)


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """A backend on an empty server."""
    with redis_server.client() as client:
        client.flushall()
    backend = RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000)
    yield backend
    backend.close()


def unexpected(error: BackendUnavailable) -> None:
    raise AssertionError from error


def test_the_next_claim_knows_a_queued_settlement(redis_server: RedisServer, backend: RedisBackend) -> None:
    """A queued settlement is sent before the next claim, in the same round trip."""
    limiter, allowed = Limiter(backend), []
    for _ in range(50):
        decision = limiter.acquire("s", TEN, 10, settle=True)
        allowed.append(decision.allowed)
        assert backend.settle_soon(decision, NOTHING, unexpected) is True

    assert allowed == [True] * 50


def test_a_queued_settlement_needs_no_claim(redis_server: RedisServer, backend: RedisBackend) -> None:
    """Without any claim, a queued settlement is sent soon, and it counts once."""
    limiter, other = Limiter(backend), Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    decision = limiter.acquire("s", TEN, 4, settle=True)
    backend.settle_soon(decision, {"requests": 9}, unexpected)
    limiter.refund(decision)

    assert eventually(lambda: other.peek("s", TEN).usages[0].remaining, 1) == 1
    other.close()


def test_only_the_first_settlement_counts(backend: RedisBackend) -> None:
    """Queued or awaited, one settlement of a decision says that it counts."""
    first, second = (Limiter(backend).acquire("s", TEN, 2, settle=True) for _ in range(2))

    assert backend.can_settle(first)
    assert backend.settle_soon(first, NOTHING, unexpected) is True
    assert not backend.can_settle(first)
    assert backend.settle(first, NOTHING) is False
    assert backend.settle(second, NOTHING) is True
    assert backend.settle_soon(second, NOTHING, unexpected) is False


def test_flush_sends_queued_settlements(redis_server: RedisServer, backend: RedisBackend) -> None:
    """`flush` sends all queued settlements, more than one call carries."""
    limiter = Limiter(backend)
    decisions = [limiter.acquire(f"s{number}", TEN, 4, settle=True) for number in range(100)]
    for decision in decisions:
        backend.settle_soon(decision, NOTHING, unexpected)
    limiter.flush()

    assert {limiter.peek(f"s{number}", TEN).usages[0].remaining for number in range(100)} == {10}


@pytest.fixture
def without_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only claims and `flush` send what is queued."""
    monkeypatch.setattr("awx_ratelimit.backends.remote.maintenance_thread.MaintenanceThread.start", lambda _: None)


def queue_refunds(backend: RedisBackend, count: int) -> list[Decision]:
    """Queue that many refunds, each of another subject."""
    decisions = [Limiter(backend).acquire(f"s{number}", TEN, 10, settle=True) for number in range(count)]
    for decision in decisions:
        backend.settle_soon(decision, NOTHING, unexpected)
    return decisions


@pytest.mark.usefixtures("without_thread")
def test_the_next_claim_knows_its_settlement_among_many(backend: RedisBackend) -> None:
    """A claim is sent with the settlements of its subject, however many others are queued."""
    queue_refunds(backend, 200)

    assert Limiter(backend).acquire("s199", TEN, 10).allowed


@pytest.mark.usefixtures("without_thread")
def test_as_many_settlements_as_claims(redis_server: RedisServer, backend: RedisBackend) -> None:
    """A call settles no fewer requests than it has claims, so that the queue does not grow."""

    async def queued_after_rounds() -> int:
        tasks = AsyncRedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000)
        for number in range(8):
            claims = [tasks.acquire(f"{number}/{each}", TEN, 1) for each in range(63)]
            for decision in await asyncio.gather(*claims):
                tasks.settle_soon(decision, NOTHING, unexpected)
        queued = len(tasks._session.settlements.unsent_ids())
        await tasks.close()
        return queued

    assert asyncio.run(queued_after_rounds()) == 63


@pytest.mark.usefixtures("without_thread")
def test_an_interrupted_call_loses_no_settlement(backend: RedisBackend) -> None:
    """If a call is interrupted, for example by the end of its event loop, its settlements are sent again."""
    queue_refunds(backend, 3)
    settlements = backend._session.settlements
    sent = settlements.next_queued()
    in_flight = settlements.unsent_ids()
    settlements.fail(sent, asyncio.CancelledError())
    backend._maintenance._release_and_renew(False)

    assert in_flight == set()
    assert {Limiter(backend).peek(f"s{number}", TEN).usages[0].remaining for number in range(3)} == {10}


@pytest.mark.usefixtures("without_thread")
def test_one_thread_sends_a_settlement_first(backend: RedisBackend) -> None:
    """Of threads that send the same settlement at once, only one sends it as its first: else it could count twice."""
    queue_refunds(backend, 30)
    threads, interval_s = 8, sys.getswitchinterval()
    barrier = Barrier(threads)

    def firsts(_: int) -> int:
        barrier.wait()
        return sum(not each.pending.again for each in backend._session.settlements.next_queued())

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            found = sum(pool.map(firsts, range(threads)))
    finally:
        sys.setswitchinterval(interval_s)

    assert found == 30


@pytest.mark.usefixtures("without_thread")
def test_a_settlement_that_is_sent_twice_leaves_nothing(redis_server: RedisServer, backend: RedisBackend) -> None:
    """A settlement of a declared claim that two calls carry counts once and leaves no key behind."""
    limiter, settlements = Limiter(backend), backend._session.settlements
    open_claim = limiter.acquire("s0", TEN, 1, settle=True)
    decision = limiter.acquire("s0", TEN, 2, settle=True)
    backend.settle_soon(decision, {"requests": 5}, unexpected)
    calls = [settlements.call(each.pending) for _ in range(2) for each in settlements.next_queued()]
    with redis_server.client() as client:
        before = client.dbsize()
        backend._maintenance._fan_out.run(calls)
        after = client.dbsize()

    assert open_claim.allowed
    assert after == before
    assert limiter.peek("s0", TEN).usages[0].remaining == 4


@pytest.mark.usefixtures("without_thread")
def test_slots_come_back_though_settlements_fail(
    redis_server: RedisServer, backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that closes releases its slots before it settles."""
    one, other = Plan.of("one", concurrent=1), Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    held = Limiter(backend).acquire("s", one)
    backend.settle_soon(Limiter(backend).acquire("t", TEN), NOTHING, lambda _: None)

    def fail(*_: object) -> None:
        raise BackendUnavailable("no time is left")

    monkeypatch.setattr(backend._session.settlements, "call", fail)
    backend.close()

    assert held.allowed
    assert other.peek("s", one).allowed
    other.close()


def test_a_queued_settlement_that_fails(start_redis: StartRedis) -> None:
    """Whoever queued a settlement learns that the server may not have it, and can settle again, once."""
    server, errors = start_redis(), list[BackendUnavailable]()
    backend = RedisBackend.from_url(server.socket_url, timeout_ms=100)
    limiter = Limiter(backend)
    decision = limiter.acquire("s", TEN, 4, settle=True)
    os.kill(server.pid, signal.SIGSTOP)
    backend.settle_soon(decision, {"requests": 6}, errors.append)
    failed = eventually(lambda: len(errors), 1)
    os.kill(server.pid, signal.SIGCONT)
    backend.settle_late(decision, {"requests": 6})
    limiter.settle(decision, 9)

    assert failed == 1
    assert eventually(lambda: limiter.peek("s", TEN).usages[0].remaining, 4) == 4
    backend.close()


def test_a_gate_does_not_wait(start_redis: StartRedis) -> None:
    """A gate settles a request while its server hangs, and Redis has it afterward."""
    server = start_redis()
    limiter = Limiter(RedisBackend.from_url(server.socket_url, timeout_ms=60_000))
    gate: Any = Gate(limiter, plans=PlanTable([TEN], default="ten"), identify=lambda _: Caller("s"))
    decision = limiter.acquire("s", TEN, 4, settle=True)
    os.kill(server.pid, signal.SIGSTOP)
    gate.settle(decision, 200, {"requests": 1})
    os.kill(server.pid, signal.SIGCONT)

    assert limiter.peek("s", TEN).usages[0].remaining == 9
    limiter.close()


def test_a_guard_keeps_queued_settlements(start_redis: StartRedis) -> None:
    """A guard settles after an outage what was queued before it."""
    server = start_redis()
    inner = RedisBackend.from_url(server.socket_url, timeout_ms=100)
    guard = GuardedBackend(inner, expected_workers=1, budget_ms=100)
    limiter = Limiter(guard)
    decision = limiter.acquire("s", TEN, 4, settle=True)
    os.kill(server.pid, signal.SIGSTOP)
    taken = guard.settle_soon(decision, {"requests": 6}, unexpected)
    kept = eventually(lambda: len(guard._fallback.late._kept), 1)
    os.kill(server.pid, signal.SIGCONT)

    def remaining() -> int:
        limiter.acquire("other", TEN)
        return limiter.peek("s", TEN).usages[0].remaining

    assert taken is True
    assert kept == 1
    assert eventually(remaining, 4, 15) == 4
    limiter.close()
