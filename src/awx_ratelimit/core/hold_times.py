"""How long a claim that found no slot should wait: Little's law over the recent leases of its plan.

With `slots` in use and a mean hold time of h, a slot comes free every ``h / slots`` (J. D. C. Little, 1961).
"""

from collections import deque

from awx_ratelimit.core.plan import Plan

_LEAST_MS = 1_000
_MOST_MS = 30_000
_RECENT = 32
#: The leases worth measuring: all of the first, then a sample, for reading a clock costs as much as a slot.
MEASURE_ALL = 256
THEN_ONE_IN = 16


class HoldTimes:
    """How long the recent leases of each plan were held. Any thread may record: a race costs one measurement."""

    __slots__ = ("_held_ms",)

    def __init__(self) -> None:
        self._held_ms: dict[str, deque[int]] = {}

    def record(self, plan: Plan, held_ms: int) -> None:
        """A lease of `plan` was given back after `held_ms`."""
        recent = self._held_ms.get(plan.name)
        if recent is None:
            recent = self._held_ms.setdefault(plan.name, deque(maxlen=_RECENT))
        recent.append(max(0, held_ms))

    def slot_wait_ms(self, plan: Plan) -> int:
        """The estimate: between 1 and 30 s, and 1 s while nothing is known."""
        recent = tuple(self._held_ms.get(plan.name, ()))
        if not recent:
            return _LEAST_MS
        return min(_MOST_MS, max(_LEAST_MS, sum(recent) // (len(recent) * plan.slots)))
