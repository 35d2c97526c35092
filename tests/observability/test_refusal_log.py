import asyncio
import logging
from typing import Any

import pytest

from awx_ratelimit import AsyncLimiter, Budget, Concurrency, Limiter, MemoryBackend, Plan, Rate, RefusalLog
from awx_ratelimit.http.event_loop_claims import claiming_limiter
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=1, concurrent=1)


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_refusals_are_sampled(caplog: pytest.LogCaptureFixture) -> None:
    """The lines per second are bounded, and a line has the number of lines left out."""
    seconds = Seconds()
    log = RefusalLog(lines_per_second=2, clock=seconds)
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[log])
    with caplog.at_level(logging.WARNING, "awx_ratelimit.refusals"):
        for _ in range(6):
            limiter.acquire("key_1", PLAN)
        seconds.now = 1.5
        limiter.acquire("key_1", PLAN)

    assert [record.left_out for record in caplog.records] == [0, 0, 3]  # type: ignore[attr-defined]
    assert caplog.messages[0] == "refused 'key_1' under p by ['minute', 'concurrent']: cost 1, retry after 60000 ms"
    assert caplog.records[0].subject == "key_1"  # type: ignore[attr-defined]
    assert caplog.records[0].limits == ["minute", "concurrent"]  # type: ignore[attr-defined]


def test_allowed_claims_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Allowed claims are not logged."""
    Limiter(MemoryBackend(), listeners=[RefusalLog()]).acquire("key_1", PLAN)

    assert [record for record in caplog.records if record.name.startswith("awx_ratelimit")] == []


def test_invalid_lines_per_second() -> None:
    """Fewer than one line per second is a ValueError."""
    with pytest.raises(ValueError, match="expected a number >= 1, got 0"):
        RefusalLog(lines_per_second=0)


SHADOW = Plan(
    "tried", (Rate("minute", 1, 60_000, shadow=True), Rate("day", 3, 86_400_000)), Concurrency(1, shadow=True)
)


def test_shadow_refusals(caplog: pytest.LogCaptureFixture) -> None:
    """A shadow refusal is a line of its own kind; a refusal names both kinds of limits."""
    log = RefusalLog(lines_per_second=2, clock=Seconds())
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[log])
    with caplog.at_level(logging.WARNING, "awx_ratelimit.refusals"):
        for _ in range(4):
            limiter.acquire("user_1", SHADOW)

    assert caplog.messages == [
        "would have refused 'user_1' under tried by ['minute', 'concurrent'], in shadow: cost 1",
        "would have refused 'user_1' under tried by ['minute', 'concurrent'], in shadow: cost 1",
        "refused 'user_1' under tried by ['day']: cost 1, retry after 28800000 ms",
    ]
    fields = [(record.limits, record.shadow_limits) for record in caplog.records]  # type: ignore[attr-defined]
    assert fields == [([], ["minute", "concurrent"])] * 2 + [(["day"], ["minute", "concurrent"])]


def test_shadow_lines_are_sampled_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Shadow lines have their own bound and do not reduce the lines of refusals."""
    seconds = Seconds()
    log = RefusalLog(lines_per_second=2, clock=seconds)
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[log])
    shadow = Plan.of("tried", per_minute=1, shadow=True)
    with caplog.at_level(logging.WARNING, "awx_ratelimit.refusals"):
        for _ in range(100):
            limiter.acquire("user_1", shadow)
        for _ in range(3):
            limiter.acquire("user_2", PLAN)
        seconds.now = 1.5
        limiter.acquire("user_1", shadow)

    kinds = [message.partition(" '")[0] for message in caplog.messages]
    assert kinds == ["would have refused"] * 2 + ["refused"] * 2 + ["would have refused"]
    assert caplog.records[-1].left_out == 97  # type: ignore[attr-defined]


def test_refusal_of_another_budget(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal by the account is logged with the scope of the limit, and a cost by measure is written out."""
    limiter = Limiter(MemoryBackend(clock=ManualClock()), listeners=[RefusalLog()])
    also = [Budget("acme", PLAN, scope="account")]
    with caplog.at_level(logging.WARNING, "awx_ratelimit.refusals"):
        for key in ("key_1", "key_2"):
            limiter.acquire(key, Plan.of("q", per_day=9), {"requests": 1}, also=also)

    assert caplog.messages == [
        "refused 'key_2' under q by ['account.minute', 'account.concurrent']: cost {'requests': 1}, "
        "retry after 60000 ms"
    ]


class InTasks:
    """An AsyncLimiter whose verbs are run to their end."""

    def __init__(self) -> None:
        self._limiter = AsyncLimiter(MemoryBackend(clock=ManualClock()))

    def acquire(self, *claim: Any) -> Any:
        return asyncio.run(self._run(self._limiter.acquire, *claim))

    def health(self) -> Any:
        return asyncio.run(self._run(self._limiter.health))

    @staticmethod
    async def _run(verb: Any, *args: Any) -> Any:
        return await verb(*args)


@pytest.fixture(params=["threads", "tasks"])
def limiter(request: pytest.FixtureRequest) -> Any:
    return Limiter(MemoryBackend(clock=ManualClock())) if request.param == "threads" else InTasks()


def test_health_counts_shadow_refusals(limiter: Any) -> None:
    """Health counts shadow refusals of acquire by plan and limit, without subjects."""
    for _ in range(3):
        limiter.acquire("user_1", PLAN)
    before = limiter.health()
    for _ in range(5):
        limiter.acquire("user_2", SHADOW)

    assert "shadow_refusals" not in before
    assert limiter.health()["shadow_refusals"] == {"tried": {"minute": 4, "concurrent": 4}}
    assert "user_2" not in str(limiter.health())


def test_gate_counts_for_its_limiter() -> None:
    """Decisions that an AsyncGate makes without a coroutine count for its limiter."""
    limiter = AsyncLimiter(MemoryBackend(clock=ManualClock()))
    claim = claiming_limiter(limiter).claim
    for _ in range(3):
        claim("user_1", Plan.of("tried", per_minute=1, shadow=True), 1)

    assert asyncio.run(InTasks._run(limiter.health))["shadow_refusals"] == {"tried": {"minute": 2}}


def test_shadow_counts_are_bounded() -> None:
    """Beyond the bound, the limits of all further plans share one counter."""
    limiter = Limiter(MemoryBackend())
    for number in range(1_100):
        plan = Plan.of(f"plan_{number}", per_minute=1, shadow=True)
        limiter.acquire("user_1", plan, 5)

    counts = limiter.health()["shadow_refusals"]
    assert len(counts) == 1_001
    assert counts["other plans"] == {"any": 100}
