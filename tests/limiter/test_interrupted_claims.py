"""Signal handlers that raise while a limiter tells its listeners of a decision."""

import logging

import pytest
from tests.interruptions import every_interruption

from awx_ratelimit import Budget, Concurrency, Decision, Limiter, MemoryBackend, Plan, Rate, RefusalLog
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.testing import ManualClock

#: A limit in shadow is always exceeded, so it is counted for each claim.
_RATES = (Rate("minute", 10**6, 60_000), Rate("tried", 1, 86_400_000, shadow=True))
PLAN = Plan("tried", _RATES, Concurrency(100))


class _Observer(Observer):
    """Follows decisions and releases."""

    def __call__(self, decision: Decision) -> None:
        pass

    def released(self, decision: Decision) -> None:
        pass


@pytest.mark.parametrize("also", [[], [Budget("other", PLAN, scope="other")]], ids=["plain", "joint"])
def test_interrupted_claim(also: list[Budget], caplog: pytest.LogCaptureFixture) -> None:
    """Wherever a signal handler raises in `acquire`, its caller has the decision, or no slot is taken."""
    caplog.set_level(logging.CRITICAL)
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter = Limiter(backend, listeners=[_Observer(), RefusalLog()])
    limiter.release(limiter.acquire("known", PLAN, also=also))
    lost = []
    for interruption in every_interruption(at_instructions=True):
        decisions: list[Decision] = []
        with interruption.raising():
            decisions.append(limiter.acquire("known", PLAN, also=also))
        for decision in decisions:
            limiter.release(decision)
        if backend.health()["leases"]:
            lost.append(interruption.number)
            backend.begin(backend.clock)

    assert lost == []
