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


def test_a_backend_that_blocks_the_event_loop_is_found() -> None:
    """The guard that all tests run under sees a wait on the event loop."""
    with pytest.raises(BlockingError):
        asyncio.run(AsyncLimiter(Blocking()).acquire("s", STARTER))
