"""Decisions on a plan of two continuous rates."""

from awx_ratelimit import Plan
from awx_ratelimit.core.decide import decide

PAIR = Plan.of("pair", per_minute=100, per_day=1_000)


def test_general_path_leads_back_to_the_fast_one() -> None:
    """After a claim on the general path, both rates have one object as their time, which the fast path needs."""
    _, levels = decide(PAIR, [60_000, 1_000, 86_400_000, 1_000], 0, 2, 1_748_772_000_000)

    assert levels[1] is levels[3]
