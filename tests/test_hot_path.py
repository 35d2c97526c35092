"""The hot path must not become slower by a multiple of its control. The margins are wide."""

from functools import partial
from pathlib import Path

import pytest
from tests.processor_time import cpu_ratio

from awx_ratelimit import Budget, Limiter, MemoryBackend, Plan
from awx_ratelimit.backends.host import HostBackend

PLAN = Plan.of("p", per_minute=100_000_000, per_day=100_000_000, concurrent=10_000)


class Control:
    """The control: a class that does the necessary look-ups and additions, without exact limits."""

    def __init__(self) -> None:
        self.tokens = dict.fromkeys(("minute", "day", "slots"), 0)

    def acquire(self, subject: str) -> tuple[str, int]:
        for name in self.tokens:
            self.tokens[name] += 1
        return subject, len(self.tokens)

    def release(self, decision: tuple[str, int]) -> None:
        self.tokens["slots"] -= 1


def test_cost_of_a_decision() -> None:
    """Acquire and release of three limits take less than twenty times as long as counting three numbers."""
    limiter, empty = Limiter(MemoryBackend()), Control()
    ours = lambda: limiter.release(limiter.acquire("key", PLAN))  # noqa: E731  # timeit wants a function
    control = lambda: empty.release(empty.acquire("key"))  # noqa: E731

    assert cpu_ratio(ours, control, 20, number=300) < 20


def test_cost_of_three_budgets() -> None:
    """A claim of three budgets with its release takes less than 3.2 times as long as one of one budget."""
    limiter = Limiter(MemoryBackend())
    also = [Budget("acme", PLAN, scope="account"), Budget("all", PLAN, scope="service")]
    one = lambda: limiter.release(limiter.acquire("key", PLAN))  # noqa: E731  # timeit wants a function
    three = lambda: limiter.release(limiter.acquire("key", PLAN, also=also))  # noqa: E731

    assert cpu_ratio(three, one, 3.2, number=300) < 3.2


@pytest.mark.parametrize("kind", ["memory", "host"])
def test_cost_beside_open_claims(kind: str, tmp_path: Path) -> None:
    """1,000 open declared claims in a shared record cost other claims little, and a settlement less than 30 claims."""
    few, many = (
        Limiter(MemoryBackend() if kind == "memory" else HostBackend(tmp_path / str(number))) for number in (1, 1_000)
    )
    service = [Budget("all", PLAN, scope="service")]
    for number in range(1_000):
        for limiter in (few, many) if not number else (many,):
            limiter.acquire("key", PLAN, also=service, settle=True)
    plain_few, plain_many = (partial(acquired_and_released, limiter, service) for limiter in (few, many))
    declared_few, declared_many = (partial(acquired_and_released, limiter, service, True) for limiter in (few, many))
    oldest = iter([many.acquire("key", PLAN, also=service, settle=True) for _ in range(100 * 10)])

    settle = lambda: many.settle(next(oldest), 0)  # noqa: E731  # timeit wants a function
    assert cpu_ratio(plain_many, plain_few, 2, number=10) < 2
    assert cpu_ratio(declared_many, declared_few, 2, number=10) < 2
    assert cpu_ratio(settle, plain_few, 30, number=10) < 30


def acquired_and_released(limiter: Limiter, also: list[Budget], settle: bool = False) -> None:
    limiter.release(limiter.acquire("key", PLAN, also=also, settle=settle))
