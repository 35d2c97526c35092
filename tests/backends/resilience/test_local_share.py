"""The share of a plan that a process decides by itself."""

import pytest

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

    assert len(seen) <= 65
