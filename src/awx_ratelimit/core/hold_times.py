"""How long leases are held, and the wait for a slot that follows from it.

The wait is an estimate from the recent hold times of the plan, by Little's law: with `slots` in use and a mean hold
time of h, a slot becomes free every ``h / slots`` (J. D. C. Little, 1961).
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.validation import exact_ms

_log = logging.getLogger("awx_ratelimit")
MIN_SLOT_WAIT_MS: Final = 1_000
_MAX_MS: Final = 30_000
_RECENT: Final = 32
#: Measure every lease below this lease id, then one in `MEASURED_ONE_IN`: reading a clock costs as much as a slot.
MEASURED_FIRST: Final = 256
MEASURED_ONE_IN: Final = 16


class HoldTimes:
    """How long recent leases of each plan were held. Thread-safe; a race loses at most one measurement.

    It knows the last MAX_CACHED_PLANS names of plans: code may make plans for its clients.
    """

    __slots__ = ("_held_ms", "_observers")

    def __init__(self) -> None:
        self._observers: tuple[Callable[[Plan, float], Any], ...] = ()
        self._held_ms: OrderedDict[str, deque[int]] = OrderedDict()

    def observe(self, observer: Callable[[Plan, float], Any]) -> None:
        """Call `observer` with the plan and the seconds of each measured lease. It must not wait or raise."""
        if observer not in self._observers:
            self._observers += (observer,)

    def record(self, plan: Plan, held_ms: int) -> None:
        """Add the hold time of one lease of `plan`."""
        recent = self._held_ms.get(plan.name)
        if recent is None:
            while len(self._held_ms) >= MAX_CACHED_PLANS:
                with suppress(KeyError):  # another thread may remove it at the same time
                    self._held_ms.popitem(last=False)
            recent = self._held_ms.setdefault(plan.name, deque(maxlen=_RECENT))
        recent.append(max(0, held_ms))
        for observer in self._observers:
            observer(plan, max(0, held_ms) / 1000)

    def measure(self, decision: Decision, lease_number: int, now_ms: Callable[[], Any]) -> int:
        """Add the hold time of a lease that ends now. Returns the bits that the id of a measured lease must not have.

        Never raises, not even if the user's clock does: a release calls it.
        """
        try:
            for plan in decision.record_plans:
                if plan.slot_bit:
                    self.record(plan, exact_ms(now_ms()) - decision.decided_at_ms)
        except Exception:
            _log.exception("the clock of a backend failed")
        return MEASURED_ONE_IN - 1 if lease_number >= MEASURED_FIRST else 0

    def slot_wait_ms(self, plan: Plan) -> int:
        """The estimated wait for a slot of `plan`, from 1 to 30 s; 1 s without any measurement."""
        recent = tuple(self._held_ms.get(plan.name, ()))
        if not recent:
            return MIN_SLOT_WAIT_MS
        return min(_MAX_MS, max(MIN_SLOT_WAIT_MS, sum(recent) // len(recent) // plan.slots))
