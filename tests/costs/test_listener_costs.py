"""What metrics, the usage history and the warnings about quotas cost a request."""

from typing import Any

import pytest
from benchmarks.instructions import of_calls
from tests.costs.counted_listeners import KEYS, LISTENERS, claiming

from awx_ratelimit import Limiter, MemoryBackend

#: The most instructions of each listener for a claim of one budget, and of two. A plain claim in memory and its release
#: take 17,900 in Python. Listeners are Python in both forms, so the bounds are the same.
MOST = {"metrics": (4_600, 4_900), "usage": (3_500, 5_000), "warnings": (2_800, 3_700)}
#: Each key claims ten times before the first count, so all are known.
LENGTHS = (300, 600)
KINDS = ("plain", "joint")


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """The instructions of one claim and its release with each listener, and with none."""
    names = [f"{listener}, {kind}" for listener in ("nothing", *LISTENERS) for kind in KINDS]
    return dict(zip(names, of_calls("tests.costs.counted_listeners:claimer", names, LENGTHS), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_cost(counts: dict[str, int], listener: str, kind: str) -> None:
    """Metrics, usage and warnings each take at most so many instructions, with the account's budget too."""
    added = counts[f"{listener}, {kind}"] - counts[f"nothing, {kind}"]

    assert added < MOST[listener][KINDS.index(kind)], counts


def test_measured() -> None:
    """What is measured counts each request."""
    made: dict[str, Any] = {name: make() for name, make in LISTENERS.items()}
    claim = claiming(Limiter(MemoryBackend(), listeners=list(made.values())), is_joint=True)
    for _ in range(20 * len(KEYS)):
        claim()
    made["usage"].rotate()

    assert made["metrics"].decisions.outcomes() == {("wide", "allowed"): 20 * len(KEYS)}
    assert sum(hour.allowed for hour in made["usage"].take(1_000)) == 20 * len(KEYS)
    assert len(list(made["warnings"].take())) == len(KEYS)
