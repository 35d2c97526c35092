"""What a module derives from plans, remembered beside that module. A Plan is a value and carries no cache."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from awx_ratelimit.core.plan import Plan

#: Plans may be made for each request, so what is remembered of them is bounded.
MOST_PLANS: Final = 4_096

D = TypeVar("D")


class Derived(Generic[D]):
    """Answers `derive(plan)`, derived once for each Plan object among the last few thousand. From any thread.

    Plans are known by identity, because a comparison costs more than most derivations. An entry keeps its plan alive,
    so no other object can have the same id.
    """

    __slots__ = ("_derive", "known")

    def __init__(self, derive: Callable[[Plan], D]) -> None:
        self._derive = derive
        #: By the id of the plan. The hot path looks here by itself, which saves it a call.
        self.known: dict[int, tuple[D, Plan]] = {}

    def of(self, plan: Plan) -> D:
        """What is derived from `plan`. Raises what `derive` raises."""
        known = self.known.get(id(plan))
        return known[0] if known is not None else self._remembered(plan)

    def _remembered(self, plan: Plan) -> D:
        derived = self._derive(plan)
        if len(self.known) >= MOST_PLANS:
            # All at once: it is one step, which no other thread comes between, and costs little for each plan.
            self.known.clear()
        self.known[id(plan)] = derived, plan
        return derived
