import logging
from collections.abc import Callable
from typing import Any

import pytest

from awx_ratelimit import STARTER, AsyncLimiter, Decision, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.base import fits_event_loop
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.runtime.compiled import IS_COMPILED


class AsyncOnly:
    async def acquire(self, *_: Any) -> Any: ...


class Waits(MemoryBackend):
    longest_wait_ms = 51


class WaitsBriefly(MemoryBackend):
    longest_wait_ms = 50


def test_async_backend_is_refused() -> None:
    """Limiter raises TypeError for an async backend, with its name."""
    with pytest.raises(TypeError, match="got AsyncOnly, which is async"):
        Limiter(AsyncOnly())  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", [Waits(), object()])
def test_blocking_backend_is_refused(backend: Any) -> None:
    """AsyncLimiter raises TypeError for a backend that may wait long."""
    with pytest.raises(TypeError, match="would block the event loop"):
        AsyncLimiter(backend)


@pytest.mark.parametrize("backend", [MemoryBackend(), WaitsBriefly()])
def test_backend_with_short_waits(backend: Any) -> None:
    """AsyncLimiter accepts a synchronous backend that bounds its waits."""
    assert fits_event_loop(AsyncLimiter(backend).backend.backend)  # type: ignore[attr-defined]  # it is wrapped


class SaysNothing(MemoryBackend):
    """A backend of another author, whose `reset` was written before it returned anything."""

    def reset(self, subject: Any, scope: Any = None) -> Any:
        super().reset(subject, scope)


@pytest.mark.parametrize("wrapped", [lambda backend: backend, GuardedBackend, DenialCacheBackend])
@pytest.mark.parametrize("scope", [None, "login"])
def test_a_backend_that_does_not_say_what_it_reset(wrapped: Callable[[Any], Any], scope: str | None) -> None:
    """A reset that returns None may have cleared something, so it counts as one that has."""
    limiter = Limiter(wrapped(SaysNothing()))

    assert limiter.reset("s", scope=scope) is True


def test_listeners() -> None:
    """Listeners are called with every decision of acquire, and with no peek."""
    heard: list[Decision] = []
    limiter = Limiter(MemoryBackend(), listeners=[heard.append])
    decisions = [limiter.acquire("s", STARTER) for _ in range(7)]
    limiter.peek("s", STARTER)

    assert heard == decisions


def test_failing_listener(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a listener is logged, and the decision is returned."""
    limiter = Limiter(MemoryBackend(), listeners=[lambda _: 1 / 0])

    with caplog.at_level(logging.ERROR, "awx_ratelimit"):
        decision = limiter.acquire("s", STARTER)

    assert decision.allowed is True
    assert "ZeroDivisionError" in caplog.text


def test_cancelled_listener() -> None:
    """A cancellation in a listener propagates and releases the slot."""

    def listener(_: Decision) -> None:
        raise KeyboardInterrupt

    limiter = Limiter(MemoryBackend(), listeners=[listener])
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("s", STARTER)

    assert limiter.peek("s", STARTER).usages[-1].remaining == 5


def test_health() -> None:
    """Health counts subjects, leases, and tokens beyond the largest debt, and says which form of the library runs."""
    limiter = Limiter(MemoryBackend())
    decisions = [limiter.acquire(f"s{number}", STARTER) for number in range(3)]
    limiter.release(decisions[0])

    counts = {"subjects": 3, "leases": 2, "cut_off_tokens": 0}
    assert limiter.health() == {"state": "ok", "backend": "memory", **counts, "compiled": IS_COMPILED}


def test_hold() -> None:
    """The slot is free after the block, and closing twice is harmless."""
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
def test_claims_are_checked(subject: Any, plan: Any) -> None:
    """The limiter checks claims for a backend that does not."""
    limiter = Limiter(ChecksNothing())
    for verb in (limiter.acquire, limiter.claim):
        with pytest.raises(TypeError):
            verb(subject, plan, 1)


API = Plan.of("api", per_minute=60)
LOGIN = Plan.of("login", per_minute=5)


@pytest.mark.parametrize(
    ("subject", "plan", "allowed"),
    [
        ("user_1", LOGIN, False),
        ("login:user_1", LOGIN, True),
        ("user_1", Plan("login", (Rate("login_minute", 5, 60_000),)), True),
    ],
)
def test_shared_limits(subject: str, plan: Plan, allowed: bool) -> None:
    """Plans share limits of the same name and subject."""
    limiter = Limiter(MemoryBackend())
    for _ in range(10):
        limiter.acquire("user_1", API)

    assert limiter.acquire(subject, plan).allowed is allowed
