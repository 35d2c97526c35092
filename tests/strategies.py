"""Hypothesis strategies for what users and clients may send."""

from hypothesis import strategies as st

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.core.rates import Refill

names = st.sampled_from(["minute", "day", "second"])
refills: st.SearchStrategy[Refill] = st.sampled_from(("continuous", "continuous", "calendar"))


rarely = st.integers(0, 5).map(lambda number: number == 0)


@st.composite
def rates(draw: st.DrawFn, name: str) -> Rate:
    """A rate of any proportion that can be counted exactly."""
    tokens = draw(st.integers(1, 50))
    refill = draw(refills)
    burst = tokens if refill == "calendar" else draw(st.integers(1, 60))
    period_ms = draw(st.sampled_from([1, 7, 1_000, 60_000, 86_400_000]))
    return Rate(name, tokens, period_ms, burst, refill=refill, shadow=draw(rarely))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan of up to three rates whose names it shares with other plans, and perhaps slots."""
    chosen = draw(st.lists(names, max_size=3, unique=True))
    slots = draw(st.none() | st.integers(1, 4)) if chosen else draw(st.integers(1, 4))
    concurrency = Concurrency(slots, shadow=draw(rarely)) if slots else None
    return Plan("p", tuple(draw(rates(name)) for name in chosen), concurrency, shadow=draw(rarely))


times_ms = st.integers(0, 5) | st.integers(-100, 70_000) | st.sampled_from([-90_000_000, 86_400_000, -60_000])
