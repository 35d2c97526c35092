"""The records of an outage are bounded."""

from collections.abc import Sequence
from typing import Any

import pytest

from awx_ratelimit import MemoryBackend, Plan
from awx_ratelimit.backends.resilience import reconciliation
from awx_ratelimit.backends.resilience.local_share import Shares
from awx_ratelimit.backends.resilience.reconciliation import Reconciliation


def test_recorded_subjects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects beyond the limit are decided as usual, but only the first ones are added to the backend."""
    monkeypatch.setattr(reconciliation, "_MAX_DECIDED", 3)
    recorded, share = Reconciliation(MemoryBackend(), lambda _: None), Shares(1).of(Plan.of("p", per_minute=2), 1)
    allowed = [recorded.acquire(f"s{number % 5}", share, 1).allowed for number in range(15)]
    told: list[Any] = []

    def heal(owed: Sequence[Any], _: bytes) -> list[Any]:
        told.extend(owed)
        return []

    recorded.run(heal, lambda _: None)

    assert allowed == [True] * 10 + [False] * 5
    assert {subject for subject, *_ in told} == {"s0", "s1", "s2"}
    assert not recorded.is_pending
