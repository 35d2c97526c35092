"""`PlanCache`: values computed from plans."""

from collections.abc import Callable
from typing import Generic, TypeVar

from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan

_Value = TypeVar("_Value")


class PlanCache(Generic[_Value]):
    """Caches `compute(plan)` for a few thousand Plan objects. Thread-safe.

    Plans are compared by identity, because comparing their fields costs more than most computations. An entry keeps
    its plan alive, so that no other object can get the same id.
    """

    __slots__ = ("_compute", "entries")

    def __init__(self, compute: Callable[[Plan], _Value]) -> None:
        self._compute = compute
        #: By the id of the plan. The hot path reads it without a call: see docs/hot-path.md.
        self.entries: dict[int, tuple[_Value, Plan]] = {}

    def get(self, plan: Plan) -> _Value:
        """The value for `plan`. Raises what `compute` raises."""
        entry = self.entries.get(id(plan))
        return entry[0] if entry is not None else self._add(plan)

    def _add(self, plan: Plan) -> _Value:
        value = self._compute(plan)
        if len(self.entries) >= MAX_CACHED_PLANS:
            # Clearing is one atomic step; evicting single entries would race with other threads.
            self.entries.clear()
        self.entries[id(plan)] = value, plan
        return value
