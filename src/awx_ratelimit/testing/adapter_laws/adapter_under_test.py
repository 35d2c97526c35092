"""`AdapterUnderTest`: the adapter, the clock and the client that every law uses, with their plans and rules."""

from collections.abc import Iterator
from typing import Any

import pytest

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.testing.clock import ManualClock
from awx_ratelimit.testing.drivers import Driver

KEY = [(b"X-API-Key", b"awx_example_small")]
SLOTS_KEY = [(b"X-API-Key", b"awx_example_slots")]
PLANS = PlanTable(
    (
        Plan("small", (Rate("minute", 3, 60_000), Rate("day", 100, 86_400_000, refill="calendar")), Concurrency(5)),
        Plan("slots", (Rate("second", 100, 1_000, burst=200),), Concurrency(1)),
        Plan.of("large", per_day=1_000),
    )
)
RULES = (
    Rule("/health", exempt=True),
    Rule("/two", methods=["POST"], cost=2),
    Rule("/items/{id}/copies", cost=3),
    Rule("/files/**", cost=3),
    Rule("/never", cost=1_000),
)


class AdapterUnderTest:
    """The adapter that a contract tests, and a client of it."""

    def driver(self, backend: Any, **gate: Any) -> Driver:
        """Return a driver around the adapter.

        The adapter's gate has the fields in `gate` and decides by `backend`, which may be called in an event loop.
        """
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the backend, one minute before midnight UTC."""
        return ManualClock(86_400_000 - 60_000)

    @pytest.fixture
    def client(self, clock: ManualClock) -> Iterator[Driver]:
        """A driver with the keys, plans and rules above."""
        driver = self.new_driver(MemoryBackend(clock=clock))
        yield driver
        close(driver)

    def new_driver(self, backend: Any, **gate: Any) -> Driver:
        """A driver over `backend` with the keys, plans and rules above."""
        keys = StaticKeys({"awx_example_small": "small", "awx_example_slots": "slots"})
        return self.driver(backend, plans=PLANS, identify=keys, rules=RULES, **gate)


def close(driver: Driver) -> None:
    """Close `driver` if it has a `close` method."""
    getattr(driver, "close", lambda: None)()
