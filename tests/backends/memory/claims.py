"""Claims of all kinds in memory, and what they leave behind."""

from collections.abc import Callable

from awx_ratelimit import Budget, Concurrency, Decision, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.base import Backend
from awx_ratelimit.core.joint_claim import JointClaim, acquired_jointly

DAY_MS = 86_400_000
PAIR = Plan.of("pair", per_minute=100, per_day=100, concurrent=100)
OTHER_PAIR = Plan.of("other", per_minute=200, per_day=100, concurrent=100)
BOUNDED = Plan("bounded", (Rate("minute", 100, 60_000),), Concurrency(100, max_hold_ms=60_000))
SLOTS = Plan("slots", (), Concurrency(100))
TOKENS = Plan("tokens", (Rate("minute", 100, 60_000), Rate("tokens", 100, 60_000, measure="tokens")), Concurrency(100))
#: Its numbers have more than 30 bits, so that CPython may run signal handlers while it multiplies them.
LARGE = Plan("large", (Rate("month", 10_000, 30 * DAY_MS), Rate("quarter", 10_000, 90 * DAY_MS)), Concurrency(10_000))


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


def owed(backend: MemoryBackend) -> dict[object, list[tuple[str, int]]]:
    """The debts of each record that owes something."""
    states = {record: state for shard in backend._shards for record, state in shard.states.items()}
    debts = {
        record: [(name, debt.debt) for name, debt in sorted(state._debts().items()) if debt.debt]
        for record, state in states.items()
    }
    return {record: each for record, each in debts.items() if each}
