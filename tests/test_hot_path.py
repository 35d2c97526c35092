"""The hot path must not become slower by a multiple of its control. The margins are wide."""

import timeit
from collections.abc import Callable

from awx_ratelimit import Budget, Limiter, MemoryBackend, Plan

PLAN = Plan.of("p", per_minute=100_000_000, per_day=100_000_000, concurrent=1_000)


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

    ours_s, control_s = _fastest(ours, control)
    assert ours_s < 20 * control_s


def test_cost_of_three_budgets() -> None:
    """A claim of three budgets with its release takes less than 3.2 times as long as one of one budget."""
    limiter = Limiter(MemoryBackend())
    also = [Budget("acme", PLAN, scope="account"), Budget("all", PLAN, scope="service")]
    one = lambda: limiter.release(limiter.acquire("key", PLAN))  # noqa: E731  # timeit wants a function
    three = lambda: limiter.release(limiter.acquire("key", PLAN, also=also))  # noqa: E731

    three_s, one_s = _fastest(three, one)
    assert three_s < 3.2 * one_s


def _fastest(*timed: Callable[[], object]) -> tuple[float, ...]:
    """The best time of each, measured in turn, so that a slow moment of the machine affects all of them."""
    rounds = [[timeit.timeit(one, number=300) for one in timed] for _ in range(100)]
    return tuple(map(min, zip(*rounds, strict=True)))
