"""A reset of all scopes of a subject, while others use scopes for the first time."""

from itertools import count
from typing import Any

import pytest

from awx_ratelimit import BackendUnavailable, Limiter, Plan, Rate
from awx_ratelimit.testing import ManualClock, fake_redis

PLAN = Plan.of("p", per_minute=10)
PLANS = {
    "month": Plan("p", (Rate("month", 100, period="month"),)),
    "minutes": Plan("p", (Rate("minutes", 100, 120_000, refill="calendar"),)),
}


NOT_RESET = (
    "redis: nothing was reset, because requests have used a new scope of the subject before each of 10 tries; "
    "reset it again, or one scope after the other"
)


@pytest.mark.parametrize(("new_scopes", "outcome", "left"), [(9, True, [10, 10]), (10, NOT_RESET, [6, 9])])
def test_new_scopes_between_the_tries(
    monkeypatch: pytest.MonkeyPatch, new_scopes: int, outcome: bool | str, left: list[int]
) -> None:
    """A new scope before each try keeps a reset from doing anything, and then it says so."""
    backend = fake_redis()
    limiter = Limiter(backend)
    limiter.acquire("s", PLAN, 4)
    reset_call, tries = backend._session.reset_call, count(1)

    def after_a_new_scope(*arguments: Any) -> Any:
        number = next(tries)
        if number <= new_scopes:
            limiter.acquire("s", PLAN, scope=f"new_{number}")
        return reset_call(*arguments)

    monkeypatch.setattr(backend._session, "reset_call", after_a_new_scope)
    try:
        found: bool | str = limiter.reset("s")
    except BackendUnavailable as error:
        found = str(error)

    assert found == outcome
    assert [limiter.peek("s", PLAN, scope=scope).usages[0].remaining for scope in (None, "new_1")] == left


@pytest.mark.parametrize(("after_ms", "found"), [(-1, True), (300_000, False)])
@pytest.mark.parametrize("period", list(PLANS))
def test_the_end_of_a_calendar_period(period: str, after_ms: int, found: bool) -> None:
    """A debt of a calendar rate counts in its period, and not once the server would keep it no longer."""
    clock = ManualClock()
    limiter = Limiter(fake_redis(clock=clock))
    full_in_ms = limiter.acquire("s", PLANS[period], 4).usages[0].reset_after_ms
    clock.advance(full_in_ms + after_ms)

    assert limiter.reset("s") is found
