"""Signal handlers that raise while claims are decided, released and settled in memory."""

from collections.abc import Callable

import pytest
from tests.interruptions import every_interruption

from awx_ratelimit import Budget, Concurrency, Decision, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.base import Backend
from awx_ratelimit.core.joint_claim import JointClaim, acquired_jointly
from awx_ratelimit.testing import ManualClock

PAIR = Plan.of("pair", per_minute=100, per_day=100, concurrent=100)
OTHER_PAIR = Plan.of("other", per_minute=200, per_day=100, concurrent=100)
BOUNDED = Plan("bounded", (Rate("minute", 100, 60_000),), Concurrency(100, max_hold_ms=60_000))
SLOTS = Plan("slots", (), Concurrency(100))
TOKENS = Plan("tokens", (Rate("minute", 100, 60_000), Rate("tokens", 100, 60_000, measure="tokens")), Concurrency(100))


def joint(number: int, plan: Plan = PAIR, cost: object = 1, *, declared: bool = False) -> JointClaim:
    also = [Budget(f"s{at}", plan, scope=f"scope{at}") for at in range(1, number)]
    return acquired_jointly("key", plan, cost, None if also else "scope", also, declared)


def acquire(plan: Plan, cost: int = 1) -> Callable[[Backend], Decision]:
    return lambda backend: backend.acquire("key", plan, cost)


def acquire_joint(claim: JointClaim) -> Callable[[Backend], Decision]:
    return lambda backend: backend.acquire_joint(claim)


CLAIMS = {
    "plain": acquire(PAIR),
    "cost 2": acquire(PAIR, 2),
    "bounded": acquire(BOUNDED),
    "slots only": acquire(SLOTS),
    "another plan": acquire(OTHER_PAIR),
    "one scope": acquire_joint(joint(1)),
    "2 budgets": acquire_joint(joint(2)),
    "3 budgets": acquire_joint(joint(3)),
    "4 budgets": acquire_joint(joint(4)),
    "3 other plans": acquire_joint(joint(3, OTHER_PAIR)),
    "2 bounded": acquire_joint(joint(2, BOUNDED)),
    "2 measures": acquire_joint(joint(2, TOKENS, {"requests": 1, "tokens": 7})),
    "3 declared": acquire_joint(joint(3, declared=True)),
    "2 declared": acquire_joint(joint(2, declared=True)),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("is_known", [False, True], ids=["new subjects", "known subjects"])
def test_interrupted_claim(claim: Callable[[Backend], Decision], is_known: bool) -> None:
    """An exception anywhere in a claim leaves nothing charged, no slot taken and no lock, or the claim is decided."""
    for interruption in every_interruption(at_instructions=True):
        backend = MemoryBackend(clock=ManualClock(1_000))
        if is_known:
            for plan in (acquire(PAIR), acquire_joint(joint(4))):
                backend.release(plan(backend))
        before = owed(backend)
        decisions: list[Decision] = []
        with interruption.raising():
            decisions.append(claim(backend))
        for decision in decisions:
            backend.release(decision)
            backend.refund(decision)

        assert backend.health()["leases"] == 0, interruption.number
        assert owed(backend) == before, interruption.number
        assert not any(state.open for shard in backend._shards for state in shard.states.values())
        assert not any(shard.lock.locked() for shard in backend._shards)


def owed(backend: MemoryBackend) -> dict[object, list[tuple[str, int]]]:
    """The debts of each record that owes something."""
    states = {record: state for shard in backend._shards for record, state in shard.states.items()}
    debts = {
        record: [(name, debt.debt) for name, debt in sorted(state._debts().items()) if debt.debt]
        for record, state in states.items()
    }
    return {record: each for record, each in debts.items() if each}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_interrupted_release(claim: Callable[[Backend], Decision]) -> None:
    """An exception in a release leaves all slots of the lease free, or all taken; the next release frees them."""
    for interruption in every_interruption(at_instructions=True):
        backend = MemoryBackend(clock=ManualClock(1_000))
        decision = claim(backend)
        taken = backend.health()["leases"]
        with interruption.raising():
            backend.release(decision)

        assert backend.health()["leases"] in (0, taken), interruption.number
        backend.release(decision)
        assert backend.health()["leases"] == 0


@pytest.mark.parametrize("actual", [0, 5])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_interrupted_settlement(claim: Callable[[Backend], Decision], actual: int) -> None:
    """An exception in a settlement leaves all budgets settled or none, and then it can be repeated."""
    settled = None
    for interruption in every_interruption(at_instructions=True):
        backend = MemoryBackend(clock=ManualClock(1_000))
        decision = claim(backend)
        before = owed(backend)
        if settled is None:
            whole = MemoryBackend(clock=ManualClock(1_000))
            whole.settle(claim(whole), {"requests": actual, "tokens": actual})
            settled = owed(whole)
        with interruption.raising():
            backend.settle(decision, {"requests": actual, "tokens": actual})

        assert owed(backend) in (before, settled), interruption.number
        backend.settle(decision, {"requests": actual, "tokens": actual})
        assert owed(backend) == settled, interruption.number
