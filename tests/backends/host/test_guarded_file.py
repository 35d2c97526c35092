"""A GuardedBackend around a host file."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.limiters import wait_until
from tests.host_processes import SLOTS_3, START_MS

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.mapped_file import (
    PAGE_BYTES,
)
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.testing import ManualClock


@pytest.mark.parametrize(("on_outage", "allowed"), [("local", [True, False]), ("open", [True, True])])
def test_guard_decides_without_the_file(path: Path, on_outage: Any, allowed: list[bool]) -> None:
    """While the file is unusable, a GuardedBackend decides by its `on_outage`; later the file decides again."""
    host = HostBackend(path, clock=ManualClock(START_MS))
    guarded = Limiter(GuardedBackend(host, on_outage=on_outage, expected_workers=4))
    asynchronous = AsyncLimiter(AsyncGuardedBackend(host, on_outage=on_outage, expected_workers=4))
    plan = Plan.of("p", per_day=4)
    before = guarded.acquire("s", plan)
    os.truncate(path, PAGE_BYTES)
    decisions = [guarded.acquire("s", plan).allowed for _ in range(2)]
    awaited = [asyncio.run(asynchronous.acquire("s", plan)).allowed for _ in range(2)]
    path.unlink()
    wait_until(lambda: host.acquire("s", plan, 1).allowed)

    assert before.allowed is True
    assert decisions == allowed
    assert awaited == allowed


def test_guard_that_fails_closed(path: Path) -> None:
    """With on_outage="closed" a claim raises BackendUnavailable, which a gate turns into a 503."""
    limiter = Limiter(GuardedBackend(HostBackend(path, clock=ManualClock(START_MS)), on_outage="closed"))
    os.truncate(path, PAGE_BYTES)

    with pytest.raises(BackendUnavailable, match="on_outage='closed' refuses claims"):
        limiter.acquire("s", SLOTS_3)
