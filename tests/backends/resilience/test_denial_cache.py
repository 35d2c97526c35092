"""Denials by rates are cached exactly, for at most a second."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit import Concurrency, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.testing import ManualClock

PLAN = Plan("p", (Rate("minute", 60, 60_000, burst=5), Rate("second", 1, 400, burst=3)), Concurrency(4))


class Counting(MemoryBackend):
    """A backend that counts how often it decides."""

    asked = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        self.asked += 1
        return super().acquire(subject, plan, cost)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The time of the backend and of the cache."""
    clock = ManualClock(10**12)
    monkeypatch.setattr(
        "awx_ratelimit.backends.resilience.denial_cache.time.monotonic_ns", lambda: clock.now_ms() * 1_000_000
    )
    return clock


@pytest.fixture
def backend(clock: ManualClock) -> Counting:
    return Counting(clock=clock)


@pytest.fixture
def limiter(backend: Counting) -> Limiter:
    return Limiter(DenialCacheBackend(backend))


def test_a_flood_of_denials_costs_one_call(limiter: Limiter, backend: Counting) -> None:
    """After three admitted claims and one denial, a thousand more denials cost no call."""
    allowed = [limiter.acquire("s", PLAN).allowed for _ in range(1_004)]

    assert allowed == [True] * 3 + [False] * 1_001
    assert backend.asked == 4


def test_cached_waits_are_exact(limiter: Limiter, backend: Counting, clock: ManualClock) -> None:
    """A cached wait shrinks with time: the claim is refused until its last millisecond, and then admitted."""
    for _ in range(4):
        refused = limiter.acquire("s", PLAN)
    waits = []
    for _ in range(3):
        clock.advance(100)
        waits.append(limiter.acquire("s", PLAN).retry_after_ms)
    clock.advance(99)
    early = limiter.acquire("s", PLAN)
    clock.advance(1)

    assert refused.retry_after_ms == 400
    assert waits == [300, 200, 100]
    assert early.retry_after_ms == 1
    assert limiter.acquire("s", PLAN).allowed is True


def test_denials_expire_after_a_second(limiter: Limiter, backend: Counting, clock: ManualClock) -> None:
    """A denial is cached for at most a second, because another process may give tokens back."""
    plan = Plan.of("day", per_day=1)
    for _ in range(3):
        limiter.acquire("s", plan)
    clock.advance(999)
    limiter.acquire("s", plan)
    asked = backend.asked
    clock.advance(1)
    limiter.acquire("s", plan)

    assert asked == 2
    assert backend.asked == 3


def test_only_the_same_claim_is_denied(limiter: Limiter, backend: Counting) -> None:
    """A denial applies only to the same plan object and at least the same cost."""
    limiter.acquire("s", PLAN, 2)
    limiter.acquire("s", PLAN, 2)
    asked = backend.asked
    same, larger = limiter.acquire("s", PLAN, 2), limiter.acquire("s", PLAN, 3)
    smaller = limiter.acquire("s", PLAN, 1)
    upgraded = limiter.acquire("s", Plan.of("q", per_minute=100), 5)

    assert asked == 2
    assert same.allowed is False
    assert larger.allowed is False
    assert smaller.allowed is True
    assert upgraded.allowed is True
    assert backend.asked == 4


def test_denials_by_slots_are_not_cached(limiter: Limiter, backend: Counting) -> None:
    """A slot may become free at any moment."""
    plan = Plan("slots", (Rate("minute", 60, 60_000),), Concurrency(1))
    held = limiter.acquire("s", plan)
    refused = limiter.acquire("s", plan)
    limiter.release(held)

    assert refused.allowed is False
    assert limiter.acquire("s", plan).allowed is True


@pytest.mark.parametrize("verb", ["reset", "refund"])
def test_own_resets_and_refunds_clear_the_cache(limiter: Limiter, verb: str) -> None:
    """After a reset or a refund, the next claim goes to the backend."""
    decisions = [limiter.acquire("s", PLAN) for _ in range(4)]
    if verb == "reset":
        limiter.reset("s")
    else:
        limiter.refund(decisions[0])

    assert limiter.acquire("s", PLAN).allowed


def test_the_cache_is_bounded(limiter: Limiter) -> None:
    """A flood of subjects does not grow the cache beyond its limit and denies no other subject."""
    plan = Plan.of("one", per_minute=1)
    for number in range(12_000):
        limiter.acquire(f"s{number}", plan)
        limiter.acquire(f"s{number}", plan)

    remembered = limiter.backend._denials._entries  # type: ignore[attr-defined]
    assert len(remembered) <= 10_000
    assert limiter.acquire("other", plan).allowed is True


@given(
    costs=st.lists(st.integers(1, 3), min_size=1, max_size=30),
    steps_ms=st.lists(st.integers(0, 500), min_size=30, max_size=30),
)
def test_decisions_equal_those_of_the_backend(costs: list[int], steps_ms: list[int]) -> None:
    """On any schedule of one process, decisions and waits are those of the bare backend."""
    clock = ManualClock(10**12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "awx_ratelimit.backends.resilience.denial_cache.time.monotonic_ns", lambda: clock.now_ms() * 1_000_000
        )
        plain, remembered = Limiter(MemoryBackend(clock=clock)), Limiter(DenialCacheBackend(MemoryBackend(clock=clock)))
        answers = []
        for cost, step_ms in zip(costs, steps_ms, strict=False):
            clock.advance(step_ms)
            both = [limiter.acquire("s", PLAN, cost) for limiter in (plain, remembered)]
            answers.append([(d.allowed, d.retry_after_ms, d.usages[:2]) for d in both])
            for limiter, decision in zip((plain, remembered), both, strict=True):
                limiter.release(decision)

    assert [ours for _, ours in answers] == [theirs for theirs, _ in answers]
