"""A reset of all scopes of a subject, while others use scopes for the first time."""

from itertools import count
from typing import Any

import pytest

from awx_ratelimit import BackendUnavailable, Limiter, Plan
from awx_ratelimit.testing import fake_redis

PLAN = Plan.of("p", per_minute=10)


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
