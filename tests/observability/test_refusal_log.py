import asyncio
import logging
from typing import Any

import pytest

from awx_ratelimit import AsyncLimiter, Concurrency, Limiter, MemoryBackend, Plan, Rate, RefusalLog
from awx_ratelimit.http.gate import claim_of
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=1, concurrent=1)


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_refusals_are_logged_with_their_fields_and_sampled(caplog: pytest.LogCaptureFixture) -> None:
    """At most so many lines a second are written; the next one says how many were left out."""
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


def test_what_is_allowed_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A listener of refusals says nothing of what was admitted."""
    Limiter(MemoryBackend(), listeners=[RefusalLog()]).acquire("key_1", PLAN)

    assert caplog.records == []


def test_a_rate_of_lines_below_one_is_an_error() -> None:
    """A log that would never say anything is refused."""
    with pytest.raises(ValueError, match="at least 1"):
        RefusalLog(lines_per_second=0)


SHADOW = Plan(
    "tried", (Rate("minute", 1, 60_000, shadow=True), Rate("day", 3, 86_400_000)), Concurrency(1, shadow=True)
)


def test_what_a_shadow_limit_would_have_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An allowed claim that a limit in shadow had no room for is a line of its own kind; a refusal names both kinds."""
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


def test_shadow_lines_are_sampled_and_crowd_out_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    """However many claims a limit in shadow would have refused, as many lines of refusals are written as before."""
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


def test_health_counts_what_shadow_limits_would_have_refused(limiter: Any) -> None:
    """By plan and limit, without a subject; a peek counts nothing, and without a shadow limit there is nothing."""
    for _ in range(3):
        limiter.acquire("user_1", PLAN)
    before = limiter.health()
    for _ in range(5):
        limiter.acquire("user_2", SHADOW)

    assert "shadow_refusals" not in before
    assert limiter.health()["shadow_refusals"] == {"tried": {"minute": 4, "concurrent": 4}}
    assert "user_2" not in str(limiter.health())


def test_a_gate_counts_in_the_health_of_its_limiter() -> None:
    """What an AsyncGate decides without a coroutine is counted where its user looks."""
    limiter = AsyncLimiter(MemoryBackend(clock=ManualClock()))
    claim = claim_of(limiter)
    for _ in range(3):
        claim("user_1", Plan.of("tried", per_minute=1, shadow=True), 1)

    assert asyncio.run(InTasks._run(limiter.health))["shadow_refusals"] == {"tried": {"minute": 2}}


def test_health_keeps_a_bounded_number_of_shadow_limits() -> None:
    """Of plans that are made for each customer, those beyond the bound are counted together."""
    limiter = Limiter(MemoryBackend())
    for number in range(1_100):
        plan = Plan.of(f"plan_{number}", per_minute=1, shadow=True)
        limiter.acquire("user_1", plan, 5)

    counts = limiter.health()["shadow_refusals"]
    assert len(counts) == 1_001
    assert counts["other plans"] == {"any": 100}
