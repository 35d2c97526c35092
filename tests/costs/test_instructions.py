"""A request takes as many instructions as it did, and listeners take few.

Cachegrind counts them, so a busy machine does not matter. One program does all that is counted, because it takes
seconds to start there.
"""

import pytest
from benchmarks.instructions import of_calls
from tests.costs.counted_listeners import KINDS, LISTENERS

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
#: The most instructions of each listener for a claim of one budget, and of two. A plain claim in memory and its release
#: take 17,900 in Python. Listeners are Python in both forms, so the bounds are the same.
MOST = {"metrics": (4_600, 4_900), "usage": (3_500, 5_000), "warnings": (2_800, 3_700)}


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """The instructions of a request of each app, and of a claim and its release with each listener and with none."""
    claims = [f"{listener}, {kind}" for listener in ("nothing", *LISTENERS) for kind in KINDS]
    names = ["ASGI, bare", "WSGI, bare", *ADDED, *MORE, *claims]
    return dict(zip(names, of_calls("tests.costs.counted:work", names, LENGTHS), strict=True))


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_listener(counts: dict[str, int], listener: str, kind: str) -> None:
    """Metrics, usage and warnings each take at most so many instructions, with the account's budget too."""
    added = counts[f"{listener}, {kind}"] - counts[f"nothing, {kind}"]

    assert added < MOST[listener][KINDS.index(kind)], counts
