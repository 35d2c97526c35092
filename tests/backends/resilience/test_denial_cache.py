"""Denials by rates are cached exactly, for at most a second."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit import Budget, Concurrency, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.testing import ManualClock

PLAN = Plan("p", (Rate("minute", 60, 60_000, burst=5), Rate("second", 1, 400, burst=3)), Concurrency(4))


class Counting(MemoryBackend):
    """A backend that counts how often it decides."""

    asked = 0

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        self.asked += 1
        return super().acquire(subject, plan, cost)

    def acquire_joint(self, claim: Any) -> Any:
        self.asked += 1
        return super().acquire_joint(claim)


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
    options=st.sampled_from(({}, {"scope": "login"}, {"also": [Budget("acme", PLAN, "account")]})),
)
def test_decisions_equal_those_of_the_backend(costs: list[int], steps_ms: list[int], options: dict[str, Any]) -> None:
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
            both = [limiter.acquire("s", PLAN, cost, **options) for limiter in (plain, remembered)]
            answers.append([(d.allowed, d.retry_after_ms, d.usages[:2]) for d in both])
            for limiter, decision in zip((plain, remembered), both, strict=True):
                limiter.release(decision)

    assert [ours for _, ours in answers] == [theirs for theirs, _ in answers]


MINUTE_3 = Plan("three", (Rate("minute", 3, 60_000), Rate("tokens", 100, 60_000, measure="tokens")), Concurrency(9))


def also(account: str = "acme", plan: Plan = MINUTE_3, scope: str = "account") -> list[Budget]:
    return [Budget(account, plan, scope)]


def test_a_flood_of_joint_denials_costs_one_call(limiter: Limiter, backend: Counting, clock: ManualClock) -> None:
    """A denial of several budgets answers the same claims until its wait is over, whichever budget refused."""
    cost = {"requests": 1, "tokens": 40}
    allowed = [limiter.acquire("s", PLAN, cost, also=also()).allowed for _ in range(500)]
    refused = limiter.acquire("s", PLAN, cost, also=also())
    clock.advance(600)
    later = limiter.acquire("s", PLAN, cost, also=also())

    assert allowed == [True] * 2 + [False] * 498
    assert backend.asked == 3
    assert (refused.retry_after_ms, later.retry_after_ms) == (12_000, 11_400)
    assert [usage.limit for usage in later.usages if usage.refused] == ["account.tokens"]


@pytest.mark.parametrize(
    "other",
    [
        {"also": also("other")},
        {"also": also(plan=Plan.of("more", per_minute=4))},
        {"also": also(scope="team")},
        {"also": [*also(), Budget("all", MINUTE_3, "service")]},
        {"also": []},
        {"cost": {"requests": 1}},
        {"subject": "t"},
    ],
)
def test_only_the_same_budgets_are_denied(limiter: Limiter, backend: Counting, other: dict[str, Any]) -> None:
    """A denial of several budgets never answers for other budgets, plans, scopes, subjects and costs."""
    claim: dict[str, Any] = {"subject": "s", "plan": PLAN, "cost": {"tokens": 90}, "also": also()}
    for _ in range(2):
        refused = limiter.acquire(**claim)
    asked = backend.asked
    limiter.acquire(**claim)
    cached = backend.asked
    limiter.acquire(**(claim | other))

    assert refused.allowed is False
    assert cached == asked
    assert backend.asked == asked + 1


@pytest.mark.parametrize("verb", ["reset", "reset scope", "refund", "settle", "another claim"])
def test_changes_of_a_refusing_budget_clear_joint_denials(limiter: Limiter, backend: Counting, verb: str) -> None:
    """After this process changes the budget that refused, the next claim goes to the backend."""
    decisions = [limiter.acquire("s", PLAN, {"tokens": 30}, also=also()) for _ in range(4)]
    asked = backend.asked
    if verb.startswith("reset"):
        limiter.reset("acme", scope="account" if verb == "reset scope" else None)
    elif verb == "refund":
        limiter.refund(decisions[0])
    elif verb == "settle":
        limiter.settle(decisions[0], {"tokens": 1})
    else:
        limiter.acquire("acme", MINUTE_3, {"tokens": 5}, scope="account")
        asked += 1
    again = limiter.acquire("s", PLAN, {"tokens": 30}, also=also())

    assert [decision.allowed for decision in decisions] == [True] * 3 + [False]
    assert again.allowed is (verb != "another claim")
    assert backend.asked == asked + 1


def test_joint_denials_are_bounded(limiter: Limiter) -> None:
    """A flood of combinations neither grows the cache beyond its limit, nor what it knows of each record."""
    full = Plan.of("full", per_minute=1)
    limiter.acquire("acme", full, scope="account")
    limiter.acquire("all", full, scope="service")
    for number in range(12_000):
        limiter.acquire(f"s{number}", PLAN, also=[*also(plan=full), Budget("all", full, "service")])
    cache = limiter.backend._denials  # type: ignore[attr-defined]
    kept = len(cache._entries), [len(keys) for keys in cache._keys.values()]
    limiter.reset("acme")

    assert kept == (10_000, [10_000, 10_000])
    assert (len(cache._entries), len(cache._keys)) == (0, 0)
