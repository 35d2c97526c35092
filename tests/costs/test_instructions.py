"""A request takes as many instructions as it did. Cachegrind counts them, so a busy machine does not matter."""

import pytest
from benchmarks.instructions import of_calls

from awx_ratelimit.runtime.compiled import IS_COMPILED

#: The instructions that a gate adds to a request, as a multiple of those of a bare ASGI app.
#: CPython 3.11 to 3.13 differ by at most 3 %.
ADDED = {"ASGI": 4.45, "ASGI, kept texts": 3.89, "WSGI": 5.18, "WSGI, kept texts": 4.6}
if IS_COMPILED:
    ADDED = {"ASGI": 3.79, "ASGI, kept texts": 3.12, "WSGI": 4.56, "WSGI, kept texts": 3.89}
MARGIN = 0.05
#: After 300 requests few of the holds are still measured: see `HoldTimes`.
LENGTHS = (300, 500)
#: What else a gate may have to do for a request, and the most that it adds to a usual one, as a multiple of that.
MORE = {"throttled addresses": 0.01, "listener": 0.06, "subclass": 0.01, "bearer key": 0.04, "three budgets": 1.2}
if IS_COMPILED:
    # Its 3,500 instructions are the same, and a usual request takes fewer.
    MORE["listener"] = 0.07


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """The instructions of one request of each app."""
    names = ["ASGI, bare", "WSGI, bare", *ADDED, *MORE]
    counted = of_calls("tests.costs.counted_requests:answerer", names, LENGTHS)
    return dict(zip(names, counted, strict=True))


@pytest.mark.parametrize("name", ADDED)
def test_added_instructions(counts: dict[str, int], name: str) -> None:
    """A gate adds no more than 5 % more instructions than the number above, which says how fast it is, and no less.

    Write the new number there if you made it faster.
    """
    added = (counts[name] - counts[f"{name[:4]}, bare"]) / counts["ASGI, bare"]

    assert added == pytest.approx(ADDED[name], rel=MARGIN), counts


@pytest.mark.parametrize("name", MORE)
def test_no_cliff(counts: dict[str, int], name: str) -> None:
    """A request costs what its own work costs, also while its address and others are throttled for unknown keys."""
    usual = counts["ASGI"] - counts["ASGI, bare"]

    assert counts[name] - counts["ASGI"] < MORE[name] * usual, counts
