"""Decide in memory: acquire and release on one hot key, compared with the peers; constant over subjects and limits.

Not timed: creating limiters and plans. Each answer is checked after its timing.
"""

import pytest
from benchmarks.peers.deciders import DECIDERS, PLAN
from pytest_benchmark.fixture import BenchmarkFixture

from awx_ratelimit import Concurrency, Limiter, MemoryBackend, Plan, Rate


class _Empty:
    def acquire(self, subject: str, plan: Plan) -> None: ...
    def release(self, decision: None) -> None: ...


@pytest.mark.benchmark(group="decide")
def bench_two_empty_calls(benchmark: BenchmarkFixture) -> None:
    """The floor: two method calls that do nothing."""
    empty = _Empty()
    benchmark(lambda: empty.release(empty.acquire("key", PLAN)))


@pytest.mark.benchmark(group="decide")
@pytest.mark.parametrize("name", DECIDERS)
def bench_decide(benchmark: BenchmarkFixture, name: str) -> None:
    """One request that is let in."""
    decide = DECIDERS[name]()
    benchmark(decide)
    assert decide() is True


@pytest.mark.benchmark(group="subjects")
@pytest.mark.parametrize("subjects", [1, 1_000, 1_000_000])
def bench_subjects(benchmark: BenchmarkFixture, subjects: int) -> None:
    """The cost of a decision does not grow with the number of subjects that are known."""
    limiter = Limiter(MemoryBackend())
    for number in range(subjects):
        limiter.release(limiter.acquire(f"key_{number}", PLAN))

    def decide() -> bool:
        decision = limiter.acquire("key_0", PLAN)
        limiter.release(decision)
        return decision.allowed

    benchmark(decide)
    assert decide() is True


@pytest.mark.benchmark(group="limits")
@pytest.mark.parametrize("tokens", [60, 10_000_000])
def bench_limits(benchmark: BenchmarkFixture, tokens: int) -> None:
    """The cost of a decision does not grow with the limit; here each is refused or let in as the limit says."""
    limiter = Limiter(MemoryBackend())
    plan = Plan("bench", (Rate("minute", tokens, 60_000),), Concurrency(5))

    def decide() -> None:
        limiter.release(limiter.acquire("key", plan))

    benchmark(decide)
    assert limiter.peek("key", plan).usages[0].capacity == tokens
