"""The guard over a real Redis that hangs: claims wait at most the budget, and Redis gets all decisions."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest
from tests.machine import eventually, timed
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import BackendUnavailable, Budget, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.base import LocalUsage
from awx_ratelimit.backends.redis import RedisBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.core.joint_claim import joint_claim

BUDGET_MS = 50
PLAN = Plan("p", (Rate("day", 100, 86_400_000), Rate("hour", 80, 3_600_000)), Concurrency(10))
T = TypeVar("T")


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """The server does nothing for the length of a block, and keeps its connections."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
def server(start_redis: StartRedis) -> RedisServer:
    return start_redis()


@pytest.fixture
def limiter(server: RedisServer) -> Iterator[Limiter]:
    """A process's limiter, guarded."""
    backend = RedisBackend.from_url(server.socket_url, timeout_ms=BUDGET_MS)
    limiter = Limiter(GuardedBackend(backend, expected_workers=2, budget_ms=BUDGET_MS))
    yield limiter
    limiter.close()


@pytest.fixture
def other(server: RedisServer) -> Iterator[Limiter]:
    """Another process's limiter, which sees what Redis knows."""
    limiter = Limiter(RedisBackend.from_url(server.socket_url, timeout_ms=5_000))
    yield limiter
    limiter.close()


def remaining(limiter: Limiter) -> list[int]:
    return [usage.remaining for usage in limiter.peek("s", PLAN).usages]


def test_an_outage_is_reconciled(server: RedisServer, limiter: Limiter, other: Limiter) -> None:
    """Local charges are added to those from before, and open slots are entered.

    No more slots are needed than a local budget has: if the machine is late, the claims before are local, too.
    """
    unanswered: list[Decision] = []
    before = [limiter.acquire("s", PLAN) for _ in range(3)]
    with stopped(server):
        during = [limiter.acquire("s", PLAN) for _ in range(2)]
    limiter.release(before[0])
    limiter.release(during[0])

    _asked_until_redis_answers(limiter, unanswered)
    slots = _remaining_once_reconciled(limiter, other, 10 - 2 - 1 - 1)
    charged = [100 - remaining(other)[0], 80 - remaining(other)[1]]
    # Claims that were sent to a server that was stopped or late may have been charged there as well.
    unanswered += [decision for decision in (*before, *during) if decision.plan is not PLAN]
    assert slots == 6, charged
    assert [6 <= tokens <= 6 + len(unanswered) for tokens in charged] == [True, True], charged


def test_an_entered_lease_is_released(server: RedisServer, limiter: Limiter, other: Limiter) -> None:
    """A lease that was entered in Redis ends when its local decision is released."""
    with stopped(server):
        during = [limiter.acquire("s", PLAN) for _ in range(4)]
    last = _asked_until_redis_answers(limiter, [])
    held = _remaining_once_reconciled(limiter, other, 10 - 5)

    for decision in (*during, last):
        limiter.release(decision)

    assert held == 5
    assert eventually(lambda: remaining(other)[2], 10) == 10


def test_an_unanswered_reconciliation_is_repeated_once(server: RedisServer, other: Limiter) -> None:
    """The retry uses the same id: tokens count once, and slots too after the next renewal."""
    # The guard's own budget is short. A late response of a busy machine would be a second one that is lost.
    guard: Any = GuardedBackend(other.backend, expected_workers=2, budget_ms=BUDGET_MS)
    for _ in range(3):
        guard._fallback.acquire("s", PLAN, 2)
    healing, ids = guard._fallback.reconciliation, []

    def heal(owed: Sequence[LocalUsage], heal_id: bytes) -> Sequence[Decision]:
        ids.append(heal_id)
        entered: Sequence[Decision] = guard.backend.heal(owed, heal_id)
        if len(ids) == 1:
            raise BackendUnavailable("the answer is lost")
        return entered

    with pytest.raises(BackendUnavailable, match="is lost"):
        healing.run(heal, guard.release)
    guard._fallback.acquire("s", PLAN, 2)
    healing.run(heal, guard.release)
    other.renew_leases()

    assert remaining(other) == [92, 72, 6]
    assert ids[0] == ids[1] != ids[2]


def _remaining_once_reconciled(limiter: Limiter, other: Limiter, slots: int) -> int:
    """The slots that Redis has left. If a late response fails the reconciliation, the next call repeats it."""

    def ask() -> int:
        limiter.peek("s", PLAN)
        return remaining(other)[2]

    return eventually(ask, slots)


ACCOUNT = Plan(
    "account", (Rate("hour", 50, 3_600_000), Rate("year", 900, period="year", measure="tokens")), Concurrency(8)
)
ALSO = [Budget("acme", ACCOUNT, "account")]


def _left(limiter: Limiter) -> list[int]:
    """What is left of every limit of both budgets, but of those that refill during a test."""
    usages = limiter.peek("s", PLAN, also=ALSO).usages
    return [usage.remaining for usage in usages if usage.limit in ("concurrent", "account.year", "account.concurrent")]


def test_every_budget_is_reconciled(limiter: Limiter, other: Limiter) -> None:
    """Local charges, settled costs and open slots of all budgets are in Redis afterward, and the slots come back."""
    guard: Any = limiter.backend
    claim = joint_claim((Budget("s", PLAN), *ALSO), {"requests": 1, "tokens": 30}, declared=True)
    decisions = [guard._fallback.acquire_joint(claim) for _ in range(4)]
    limiter.settle(decisions[0], {"tokens": 5})
    limiter.release(decisions[0])
    _reconcile(guard)
    held = _left(other)
    limiter.settle(decisions[1], {"tokens": 100})
    for decision in decisions:
        limiter.release(decision)
    _reconcile(guard)

    assert {decision.allowed for decision in decisions} == {True}
    assert held == [7, 900 - 95, 5]
    assert eventually(lambda: _left(other), [10, 900 - 165, 8]) == [10, 900 - 165, 8]
    assert 96 <= remaining(other)[0] <= 97
    other.reset("acme")
    assert _left(other) == [10, 900, 8]


def _reconcile(guard: Any) -> None:
    """Reconcile, again if a busy machine is late."""

    def is_done() -> bool:
        with suppress(BackendUnavailable):
            guard._fallback.reconciliation.run(guard.backend.heal, guard.release)
            return True
        return False

    assert eventually(is_done, expected=True) is True


def test_claims_of_an_account_in_an_outage(server: RedisServer, limiter: Limiter, other: Limiter) -> None:
    """While the server is stopped, each worker decides with its share of the account; later Redis knows all of it."""
    with stopped(server):
        during = [limiter.acquire("s", PLAN, {"requests": 1, "tokens": 100}, also=ALSO) for _ in range(8)]
    allowed = [decision for decision in during if decision.allowed]
    _asked_until_redis_answers(limiter, [])
    # Claims that were sent before the server was known to be stopped may have been charged there as well.
    tokens = eventually(lambda: 400 <= 900 - _left(other)[1] <= 900, expected=True)
    for decision in allowed:
        limiter.release(decision)

    assert len(allowed) == 4
    assert tokens is True
    assert eventually(lambda: _left(other)[2], 8) == 8


def _asked_until_redis_answers(limiter: Limiter, local: list[Decision]) -> Decision:
    """The first decision that is Redis's own; those in `local`, made before it, are released and refunded."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        decision = limiter.acquire("s", PLAN)
        if decision.plan is PLAN:
            return decision
        local.append(decision)
        limiter.refund(decision)
        limiter.release(decision)
        time.sleep(0.02)
    pytest.fail("Redis is not asked again")


def test_claims_wait_at_most_the_budget(server: RedisServer, limiter: Limiter) -> None:
    """Five claims wait for the budget, and later claims do not wait."""
    limiter.acquire("s", PLAN)
    waits_s = []
    with stopped(server), timed() as watch:
        for _ in range(50):
            begun = time.monotonic()
            limiter.acquire("s", PLAN)
            waits_s.append(time.monotonic() - begun)

    late = sorted(waits_s)[::-1]
    assert late[0] < watch.limit(2 * BUDGET_MS / 1000 + 0.2), late[:8]
    assert late[6] < watch.limit(BUDGET_MS / 1000), late[:8]
