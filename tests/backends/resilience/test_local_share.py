"""The share of a plan that a process decides by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit import Plan
from awx_ratelimit.backends.resilience.local_share import Shares


@pytest.mark.parametrize("burst", [40, 127, 10_000])
def test_chosen_costs(burst: int) -> None:
    """A share holds each cost up to the burst of its plan, and costs that grow one by one make few shares."""
    shares, plan = Shares(20), Plan.of("p", per_minute=burst)
    seen = set()
    for cost in range(1, burst + 1):
        rate = shares.of(plan, cost).rates[0]
        assert cost <= rate.burst <= burst
        seen.add(rate)

    assert len(seen) <= 65 + (burst // 64).bit_length()


@pytest.mark.parametrize("plan", [Plan.of("p", per_minute=6_400), Plan.of("p", per_month=1_000_000)])
@pytest.mark.parametrize("workers", [1, 64, 65, 1_000])
def test_claims_of_one_token(plan: Plan, workers: int) -> None:
    """However many processes there are, their shares exceed a limit by at most one token each."""
    whole, share = plan.rates[0], Shares(workers).of(plan, 1).rates[0]

    assert share.burst == -(-whole.burst // workers)


@given(burst=st.integers(1, 10**8), workers=st.integers(1, 10_000), share=st.floats(0, 1))
def test_no_larger_than_needed(burst: int, workers: int, share: float) -> None:
    """A share holds its largest claim, and less than twice as much if it is larger than its part of the limit."""
    cost = max(1, int(burst * share))
    rate = Shares(workers).of(Plan.of("p", per_minute=burst), cost).rates[0]

    assert cost <= rate.burst < max(2 * cost, 1 + -(-burst // workers))
