"""One claim and its release, with and without a listener, for counting their instructions."""

from collections.abc import Callable
from itertools import cycle
from typing import Any

from awx_ratelimit import Budget, Limiter, MemoryBackend, Plan
from awx_ratelimit.keys.format import is_key_id
from awx_ratelimit.observability.latest_decisions import LatestDecisions
from awx_ratelimit.observability.limit_metrics import LimitMetrics
from awx_ratelimit.observability.usage_history import UsageCounts
from awx_ratelimit.testing import ManualClock

#: Of one budget, and of two.
KINDS = ("plain", "joint")
KEYS = [f"key_{number:016d}" for number in range(100)]
PLAN = Plan.of("wide", per_minute=10**9, per_day=10**9, concurrent=1_000)
_ALSO = [Budget("acme", Plan.of("account", per_minute=10**9), scope="account")]


class _Unread:
    """A histogram that nobody reads."""

    def observe(self, amount: float) -> None:
        """Drop an observation."""


def _nothing() -> bool:
    """What starts and wakes threads."""
    return True


LISTENERS: dict[str, Callable[[], Any]] = {
    "metrics": lambda: LimitMetrics(lambda *_: _Unread()),
    "usage": lambda: UsageCounts("key_", is_key_id, start=_nothing, wake=_nothing),
    "warnings": lambda: LatestDecisions(start=_nothing, wake=_nothing),
}


def claimer(name: str) -> Callable[[], None]:
    """A function that claims for one key after another. `name` is a listener or ``nothing``, and plain or joint."""
    listener, kind = name.split(", ")
    listeners = [] if listener == "nothing" else [LISTENERS[listener]()]
    return claiming(Limiter(MemoryBackend(clock=ManualClock()), listeners=listeners), is_joint=kind == "joint")


def claiming(limiter: Limiter, *, is_joint: bool) -> Callable[[], None]:
    """A function that claims for one key after another, with the budget of its account if `is_joint`."""
    next_key = cycle(KEYS).__next__
    also = _ALSO if is_joint else []

    def claim() -> None:
        limiter.release(limiter.acquire(next_key(), PLAN, also=also))

    return claim
