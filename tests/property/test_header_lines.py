"""The header lines: the fast and the general path agree, and a client that waits `t` is never refused."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.strategies import names, plans, rates, times_ms

from awx_ratelimit import Budget, Concurrency, Decision, Limiter, MemoryBackend, Plan
from awx_ratelimit.http import draft_headers, joint_headers, limit_headers
from awx_ratelimit.testing import ManualClock

any_plans = plans() | st.builds(
    Plan.of, st.just("p"), per_minute=st.integers(1, 70), per_day=st.integers(1, 10**8), concurrent=st.just(3)
)
histories = st.lists(st.tuples(times_ms, st.booleans()), min_size=1, max_size=8)


def decided(plan: Plan, also: list[Budget], history: list[tuple[int, bool]]) -> Iterator[Decision]:
    """The decision of a claim after each step of the clock. Some of the leases are released."""
    clock = ManualClock(10**9)
    limiter = Limiter(MemoryBackend(clock=clock))
    for step_ms, is_released in history:
        clock.set(max(0, clock.now_ms() + step_ms))
        decision = limiter.acquire("s", plan, also=also)
        yield decision
        if is_released:
            limiter.release(decision)


@given(any_plans, histories)
def test_fast_path_equals_general_path(plan: Plan, history: list[tuple[int, bool]]) -> None:
    """The fast path of the draft headers writes the same bytes as the general one."""
    usual, long = [], []
    for decision in decided(plan, [], history):
        usual.append(limit_headers.headers(decision))
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(draft_headers._cached_pairs, id(plan), (None, plan))
            long.append(limit_headers.headers(decision))

    assert usual == long


@given(any_plans, any_plans, histories)
def test_kept_texts_of_several_budgets(plan: Plan, other: Plan, history: list[tuple[int, bool]]) -> None:
    """The headers of several budgets are those that a process without kept texts would write."""
    decisions = [*decided(plan, [Budget("all", other, scope="all")], history)]
    usual = [limit_headers.headers(decision) for decision in decisions]
    new = []
    for decision in decisions:
        joint_headers._by_shape.clear()
        joint_headers._templates.clear()
        new.append(limit_headers.headers(decision))

    assert usual == new


@st.composite
def paced_plans(draw: st.DrawFn) -> Plan:
    """A plan of one to three enforced rates, with enough slots for clients that release their leases."""
    chosen = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    drawn = tuple(draw(rates(name).filter(lambda rate: not rate.shadow)) for name in chosen)
    return Plan("paced", drawn, draw(st.sampled_from([None, Concurrency(1)])))


def parsed(decision: Decision) -> dict[str, tuple[int, int]]:
    """The fields of the RateLimit line for each rate: what remains, and `t`."""
    line = dict(limit_headers.headers(decision))[b"ratelimit"].decode()
    return {name: (int(left), int(seconds)) for name, left, seconds in re.findall(r'"(\w+)";r=(\d+);t=(\d+)', line)}


@given(paced_plans(), st.integers(0, 86_400_000))
def test_following_the_header(plan: Plan, start_ms: int) -> None:
    """A client that waits `t` whenever `r` is 0 is never refused."""
    clock = ManualClock(10**9 + start_ms)
    limiter = Limiter(MemoryBackend(clock=clock))
    for _ in range(70):
        decision = limiter.acquire("s", plan)
        assert decision.allowed
        limiter.release(decision)
        clock.advance(1_000 * max((seconds for left, seconds in parsed(decision).values() if not left), default=0))


@given(paced_plans(), st.integers(-70_000, 70_000))
def test_t_of_an_empty_bucket(plan: Plan, step_ms: int) -> None:
    """With `r=0`, `t` is the first whole second with a free token, also after a clock stepped back."""
    clock = ManualClock(10**9)
    limiter = Limiter(MemoryBackend(clock=clock))
    limiter.release(limiter.acquire("s", plan))
    clock.set(10**9 + step_ms)
    left = min(usage.remaining for usage in limiter.peek("s", plan).usages if usage.limit != "concurrent")
    assume(left)
    decision = limiter.acquire("s", plan, left)
    limiter.release(decision)
    now_ms = clock.now_ms()

    for rate, (left, seconds) in zip(plan.rates, parsed(decision).values(), strict=True):
        if not left:
            clock.set(now_ms + 1_000 * seconds)
            assert _left(limiter, plan, rate.name) > 0
            clock.set(now_ms + 1_000 * (seconds - 1))
            assert seconds == 1 or _left(limiter, plan, rate.name) == 0


def _left(limiter: Limiter, plan: Plan, name: str) -> int:
    return next(usage.remaining for usage in limiter.peek("s", plan).usages if usage.limit == name)
