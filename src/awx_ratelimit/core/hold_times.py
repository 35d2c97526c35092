"""Estimates the wait for a slot from the recent hold times of the plan, by Little's law.

With `slots` in use and a mean hold time of h, a slot becomes free every ``h / slots`` (J. D. C. Little, 1961).
"""

import logging
from collections import deque
from collections.abc import Callable

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan

_log = logging.getLogger("awx_ratelimit")
_MIN_MS = 1_000
_MAX_MS = 30_000
_RECENT = 32
#: Measure every lease below this lease id, then one in `MEASURED_ONE_IN`: reading a clock costs as much as a slot.
MEASURED_FIRST = 256
MEASURED_ONE_IN = 16


class HoldTimes:
    """How long recent leases of each plan were held. Thread-safe; a race loses at most one measurement."""

    __slots__ = ("_held_ms",)

    def __init__(self) -> None:
        self._held_ms: dict[str, deque[int]] = {}

    def record(self, plan: Plan, held_ms: int) -> None:
        """Add the hold time of one lease of `plan`."""
        recent = self._held_ms.get(plan.name)
        if recent is None:
            recent = self._held_ms.setdefault(plan.name, deque(maxlen=_RECENT))
        recent.append(max(0, held_ms))

    def measure(self, decision: Decision, lease_number: int, now_ms: Callable[[], int]) -> int:
        """Add the hold time of a lease that ends now. Returns the bits that the id of a measured lease must not have.

        Never raises, not even if the user's clock does: a release calls it.
        """
        try:
            self.record(decision.plan, now_ms() - decision.decided_at_ms)
        except Exception:
            _log.exception("the clock of a backend failed")
        return MEASURED_ONE_IN - 1 if lease_number >= MEASURED_FIRST else 0

    def slot_wait_ms(self, plan: Plan) -> int:
        """The estimated wait for a slot of `plan`, from 1 to 30 s; 1 s without any measurement."""
        recent = tuple(self._held_ms.get(plan.name, ()))
        if not recent:
            return _MIN_MS
        return min(_MAX_MS, max(_MIN_MS, sum(recent) // (len(recent) * plan.slots)))
