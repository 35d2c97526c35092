"""A request takes as many instructions as it did. Cachegrind counts them, so a busy machine does not matter."""

import pytest
from benchmarks.instructions import of_calls

from awx_ratelimit.runtime.compiled import IS_COMPILED

#: The instructions that a gate adds to a request, as a multiple of those of a bare ASGI app.
#: CPython 3.11 to 3.13 differ by at most 3 %.
ADDED = {"ASGI": 4.35, "WSGI": 5.1} if IS_COMPILED else {"ASGI": 4.65, "WSGI": 5.3}
MARGIN = 0.05
#: What else a gate may have to do for a request, and the most that it adds to a usual one, as a multiple of that.
MORE = {"throttled addresses": 0.02, "listener": 0.1, "subclass": 0.02, "bearer key": 0.05, "three budgets": 1.2}


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """The instructions of one request of each app."""
    names = [*(f"{name}{bare}" for name in ADDED for bare in (", bare", "")), *MORE]
    return dict(zip(names, of_calls("tests.costs.counted_requests:answerer", names), strict=True))


@pytest.mark.parametrize("name", ADDED)
def test_added_instructions(counts: dict[str, int], name: str) -> None:
    """A gate adds no more than 5 % more instructions than the number above, which says how fast it is, and no less.

    Write the new number there if you made it faster.
    """
    added = (counts[name] - counts[f"{name}, bare"]) / counts["ASGI, bare"]

    assert added == pytest.approx(ADDED[name], rel=MARGIN), counts


@pytest.mark.parametrize("name", MORE)
def test_no_cliff(counts: dict[str, int], name: str) -> None:
    """A request costs what its own work costs, also while 10,000 addresses are throttled for unknown keys."""
    usual = counts["ASGI"] - counts["ASGI, bare"]

    assert counts[name] - counts["ASGI"] < MORE[name] * usual, counts
