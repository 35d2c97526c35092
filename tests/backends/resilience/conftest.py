from typing import Any

import pytest


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guard's clock, and no chance: a list of one number."""
    now = [100.0]
    monkeypatch.setattr("awx_ratelimit.backends.resilience.fallback.time.monotonic", lambda: now[0])
    monkeypatch.setattr("awx_ratelimit.backends.resilience.fallback.random.random", lambda: 1.0)
    return now
