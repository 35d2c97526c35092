"""`PlanCache`: values computed from plans. `CostCache`: values for plans and costs."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan

#: Clients may choose costs, so a cache keeps few values for other costs than 1.
MAX_CACHED_COSTS: Final = 128
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


class CostCache(dict[Any, _Value]):
    """Values for plans and costs: a few thousand for claims that cost 1, and few for all other costs.

    A value must keep the objects whose ids are in its key. Thread-safe.
    """

    __slots__ = ("_other_costs",)

    def __init__(self) -> None:
        super().__init__()
        self._other_costs: list[Any] = []

    def keep(self, key: Any, value: _Value, cost: object) -> _Value:
        """Keep `value`, which is for this cost, and return it."""
        if len(self) >= MAX_CACHED_PLANS:
            self.clear()
            self._other_costs = []
        if cost != 1:
            if len(self._other_costs) >= MAX_CACHED_COSTS:
                before, self._other_costs = self._other_costs, []
                for each in before:
                    self.pop(each, None)
            self._other_costs += (key,)
        self[key] = value
        return value
