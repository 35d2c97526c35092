import logging
from typing import Any

import pytest

from awx_ratelimit import STARTER, AsyncLimiter, Decision, Limiter, MemoryBackend, Plan, Rate, Rule
from awx_ratelimit.backends.base import fits_event_loop


class AsyncOnly:
    async def acquire(self, *_: Any) -> Any: ...


class Waits(MemoryBackend):
    longest_wait_ms = 51


class MayWait(MemoryBackend):
    never_waits = False


class WaitsBriefly(MemoryBackend):
    longest_wait_ms = 50


def test_a_limiter_refuses_an_async_backend() -> None:
    """Limiter says at once, and by its name, that a backend is not for it."""
    with pytest.raises(TypeError, match="AsyncOnly is none"):
        Limiter(AsyncOnly())  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", [Waits(), MayWait(), object()])
def test_an_async_limiter_refuses_what_would_block(backend: Any) -> None:
    """AsyncLimiter refuses a backend that waits, when it is made."""
    with pytest.raises(TypeError, match="would block its loop"):
        AsyncLimiter(backend)


@pytest.mark.parametrize("backend", [MemoryBackend(), WaitsBriefly()])
def test_an_async_limiter_takes_a_backend_whose_longest_wait_fits_an_event_loop(backend: Any) -> None:
    """A synchronous backend that says how long it waits at most is called in the loop."""
    assert fits_event_loop(AsyncLimiter(backend).backend.backend)  # type: ignore[attr-defined]  # it is wrapped


def test_listeners_hear_each_decision() -> None:
    """A listener is called with every decision, allowed or refused, and with no peek."""
    heard: list[Decision] = []
    limiter = Limiter(MemoryBackend(), listeners=[heard.append])
    decisions = [limiter.acquire("s", STARTER) for _ in range(7)]
    limiter.peek("s", STARTER)

    assert heard == decisions


def test_what_a_listener_raises_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that fails is logged, and the decision stands."""
    limiter = Limiter(MemoryBackend(), listeners=[lambda _: 1 / 0])

    with caplog.at_level(logging.ERROR, "awx_ratelimit"):
        decision = limiter.acquire("s", STARTER)

    assert decision.allowed is True
    assert "ZeroDivisionError" in caplog.text


def test_a_listener_that_is_cancelled_leaves_no_slot_behind() -> None:
    """What ends the caller inside a listener goes through, and the slot is free."""

    def listener(_: Decision) -> None:
        raise KeyboardInterrupt

    limiter = Limiter(MemoryBackend(), listeners=[listener])
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("s", STARTER)

    assert limiter.peek("s", STARTER).usages[-1].remaining == 5


def test_health_says_what_is_known_and_held() -> None:
    """The health of a limiter is fit for a status page."""
    limiter = Limiter(MemoryBackend())
    decisions = [limiter.acquire(f"s{number}", STARTER) for number in range(3)]
    limiter.release(decisions[0])

    assert limiter.health() == {"state": "ok", "backend": "memory", "subjects": 3, "leases": 2}


def test_hold_gives_the_slot_back() -> None:
    """The slot of a `with` block is free after it, and closing twice is harmless."""
    limiter = Limiter(MemoryBackend())
    with limiter.hold("s", STARTER) as decision:
        inside = limiter.peek("s", STARTER).usages[-1].remaining
    limiter.close()
    limiter.close()

    assert decision.allowed is True
    assert inside == 4
    assert limiter.peek("s", STARTER).usages[-1].remaining == 5


class ChecksNothing(MemoryBackend):
    """A third party's backend, which takes what it gets."""

    checks_claims = False

    def acquire(self, *_: Any) -> Any:
        pytest.fail("a malformed claim reached the backend")


@pytest.mark.parametrize(("subject", "plan"), [(42, STARTER), ("", STARTER), ("s", "starter")])
def test_a_backend_that_checks_nothing_gets_no_malformed_claim(subject: Any, plan: Any) -> None:
    """The limiter checks what the backend does not say that it checks itself."""
    limiter = Limiter(ChecksNothing())
    for verb in (limiter.acquire, limiter.claim):
        with pytest.raises(TypeError):
            verb(subject, plan, 1)


API = Plan.of("api", per_minute=60)
LOGIN = Plan.of("login", per_minute=5)
LOGIN_RULE = Rule("/login", budget="login", plan=LOGIN)


@pytest.mark.parametrize(
    ("subject", "plan", "allowed"),
    [
        ("user_1", LOGIN, False),
        ("login:user_1", LOGIN, True),
        ("user_1", Plan("login", (Rate("login_minute", 5, 60_000),)), True),
        ("user_1", LOGIN_RULE.with_budget(API), True),
    ],
)
def test_plans_share_the_limits_of_a_subject_that_have_one_name(subject: str, plan: Plan, allowed: bool) -> None:
    """After ten claims of a subject under one plan another plan has used ten too, unless subject or name differ."""
    limiter = Limiter(MemoryBackend())
    for _ in range(10):
        limiter.acquire("user_1", API)

    assert limiter.acquire(subject, plan).allowed is allowed
