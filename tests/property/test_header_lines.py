"""The straight line that writes the usual header lines writes what the long way writes."""

from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import plans, times_ms

from awx_ratelimit import Limiter, MemoryBackend, Plan
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.web import render


@given(
    plans()
    | st.builds(
        Plan.of, st.just("p"), per_minute=st.integers(1, 70), per_day=st.integers(1, 10**8), concurrent=st.just(3)
    ),
    st.lists(times_ms, min_size=1, max_size=8),
)
def test_both_ways_write_the_same(plan: Plan, steps_ms: list[int]) -> None:
    """Whatever was charged and whenever, the header lines do not depend on the way they were made."""
    clock = ManualClock(10**9)
    limiter = Limiter(MemoryBackend(clock=clock))
    usual, long = [], []
    for step_ms in steps_ms:
        clock.set(max(0, clock.now_ms() + step_ms))
        decision = limiter.acquire("s", plan)
        plan.memo.pop("draft", None)
        usual.append(render.headers(decision))
        plan.memo["draft"] = plan.memo["draft"]._replace(pair=None)
        long.append(render.headers(decision))

    assert usual == long
