"""What the backend on PostgreSQL keeps of costs that clients choose."""

import tracemalloc
from typing import Any

from awx_ratelimit import Plan
from awx_ratelimit.backends.postgres.codec import Codec

MANY = 3_000
#: Batches of many sizes, each with new costs.
BATCHES = 120
#: Less than a tenth of what a cache of these costs would take, and more than what Python keeps of freed tuples.
MAX_BYTES = 500_000
PLAN = Plan.of("p", per_minute=10**9, per_day=10**9, concurrent=100)


def calls(codec: Codec, first_cost: int) -> set[bytes]:
    """The names of the statements of many claims that are alone, and of batches."""
    sent: list[Any] = [codec.acquire([("s", PLAN, first_cost + number, 7)]) for number in range(MANY)]
    names = {call.statement.name for call in sent}
    for number in range(BATCHES):
        size = 2 + number % 100
        claims = [(f"s{at}", PLAN, first_cost + size * number + at, 7) for at in range(size)]
        names.add(codec.acquire(claims).statement.name)
    return names


def test_costs_leave_nothing() -> None:
    """Thousands of costs share a statement, so that connections stay prepared, and no memory grows with them."""
    codec = Codec("awx.limits", bytes(16))
    before = calls(codec, 2)
    tracemalloc.start()
    try:
        begin_bytes, _ = tracemalloc.get_traced_memory()
        names = calls(codec, 10**6)
        grown_bytes = tracemalloc.get_traced_memory()[0] - begin_bytes
    finally:
        tracemalloc.stop()

    assert len(names) == 2
    assert names < before
    assert len(before) == 6
    assert grown_bytes < MAX_BYTES
