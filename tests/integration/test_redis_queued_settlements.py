"""Settlements that nobody waits for travel with the next call to a real Redis."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.machine import eventually
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import BackendUnavailable, Caller, Gate, GuardedBackend, Limiter, Plan, PlanTable, RedisBackend
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


def test_flush_sends_queued_settlements(redis_server: RedisServer, backend: RedisBackend) -> None:
    """`flush` sends all queued settlements, more than one call carries."""
    limiter = Limiter(backend)
    decisions = [limiter.acquire(f"s{number}", TEN, 4, settle=True) for number in range(100)]
    for decision in decisions:
        backend.settle_soon(decision, NOTHING, unexpected)
    limiter.flush()

    assert {limiter.peek(f"s{number}", TEN).usages[0].remaining for number in range(100)} == {10}


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
