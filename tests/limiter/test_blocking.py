import asyncio
import time

import pytest
from blockbuster import BlockingError

from awx_ratelimit import STARTER, AsyncLimiter, Decision, MemoryBackend, Plan


class Blocking(MemoryBackend):
    """A backend that says it never waits, and waits."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        time.sleep(0.001)
        return super().acquire(subject, plan, cost)


def test_blocking_call_is_detected() -> None:
    """The test suite detects a blocking call in an event loop."""
    with pytest.raises(BlockingError):
        asyncio.run(AsyncLimiter(Blocking()).acquire("s", STARTER))
