"""`BackendUnderTest`: the backend, the clock and the limiter that every law uses, and the plans of the tests."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import pytest

from awx_ratelimit.backends.base import OTHER_VERBS, Backend, fits_event_loop
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.testing import ManualClock

START_MS = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000
MINUTE_10 = Plan.of("ten", per_minute=10)
CALENDAR_3 = Plan("calendar", (Rate("day", 3, 86_400_000, refill="calendar"),))
TWO_RATES = Plan("two", (Rate("second", 2, 1_000), Rate("minute", 10, 60_000)), Concurrency(1))


class BackendUnderTest:
    """The backend that a contract tests, with its clock and a limiter over it."""

    #: Number of random steps in the test of law 1, over all seeds.
    exact_steps = 8_000

    def backend(self, clock: ManualClock) -> Any:
        """Return a new, empty backend that reads its time from `clock`."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The event loop."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the backend, at midnight UTC."""
        return ManualClock(START_MS)

    @pytest.fixture
    async def limiter(self, clock: ManualClock) -> AsyncIterator[AsyncLimiter]:
        """A limiter over a new backend."""
        limiter = AsyncLimiter(_awaitable(self.backend(clock)))
        limiter.clock = clock
        yield limiter
        await limiter.aclose()


async def spend(limiter: AsyncLimiter, plan: Plan, cost: int) -> Decision:
    """Use `cost` tokens of subject ``s`` and no slot. Raises AssertionError if the claim is refused."""
    decision = await limiter.acquire("s", plan, cost)
    await limiter.release(decision)
    assert decision.allowed, decision
    return decision


class _ThreadedBackend:
    """An async backend that calls a blocking one in threads."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.release = backend.release
        # `isinstance` with a protocol overlooks what `__getattr__` returns, from Python 3.12 on.
        for verb in ("peek", *OTHER_VERBS):
            if hasattr(backend, verb):
                setattr(self, verb, partial(asyncio.to_thread, getattr(backend, verb)))

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        return await asyncio.to_thread(self._backend.acquire, subject, plan, cost)


def _awaitable(backend: Any) -> Any:
    """Return `backend`, wrapped in threads if it would block the event loop."""
    synchronous = isinstance(backend, Backend) and not iscoroutinefunction(backend.acquire)
    return _ThreadedBackend(backend) if synchronous and not fits_event_loop(backend) else backend
