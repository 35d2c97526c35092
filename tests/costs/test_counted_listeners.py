"""What is counted for metrics, the usage history and the warnings about quotas does its work."""

from typing import Any

from tests.costs.counted_listeners import KEYS, LISTENERS, claiming

from awx_ratelimit import Limiter, MemoryBackend


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
