"""Limiters on a host file, and what they report."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.host_processes import SLOTS_3
from tests.machine import eventually

from awx_ratelimit import BackendUnavailable, Decision, Limiter, Plan
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock


def limiter(path: Path, clock: ManualClock) -> Limiter:
    return Limiter(HostBackend(path, clock=clock))


def session(limiter: Limiter) -> Any:
    return limiter.backend._session  # type: ignore[attr-defined]


def remaining(limiter: Limiter, plan: Plan = SLOTS_3, subject: str = "s") -> list[int]:
    return [usage.remaining for usage in limiter.peek(subject, plan).usages]


def decided(own: Limiter, subject: str, plan: Plan) -> Decision:
    """A decision. It repeats a claim that gave up because another thread held the lock, as on a busy machine."""
    while True:
        with suppress(BackendUnavailable):
            return own.acquire(subject, plan)


def wait_until(done: Callable[[], bool]) -> None:
    """Wait until `done()` is true. The maintenance thread runs once a second."""

    def ask() -> bool:
        with suppress(BackendUnavailable):
            return done()
        return False

    assert eventually(ask, expected=True, seconds=10), "it did not happen in time"
