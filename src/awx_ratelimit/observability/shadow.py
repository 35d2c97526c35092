"""The refusals that limits in shadow would have made: their names for the log, their counts for `health`."""

import threading
from collections.abc import Mapping
from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.runtime.forks import register_after_fork

#: Callers may bring many plans. Beyond this number, their limits share one counter.
_MAX_LIMITS = 1_000
OTHER_PLANS = "other plans"


def shadow_refusals(decision: Decision) -> list[str]:
    """The names of the exceeded limits in shadow."""
    plan = decision.plan
    exceeded = decision.exceeded & ~plan.enforced
    if not exceeded:
        return []
    names = [rate.name for _, bit, rate in plan.numbered_rates if exceeded & bit]
    return [*names, CONCURRENT] if exceeded & plan.slot_bit else names


class ShadowCounts:
    """Counts the refusals of each limit in shadow, by plan. Thread-safe. It stores no subjects."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._renew_lock()
        register_after_fork(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def count(self, decision: Decision) -> None:
        """Count the shadow refusals of `decision`."""
        for limit in shadow_refusals(decision):
            key = decision.plan.name, limit
            with self._lock:
                if key not in self._counts and len(self._counts) >= _MAX_LIMITS:
                    key = OTHER_PLANS, ""
                self._counts[key] = self._counts.get(key, 0) + 1

    def added_to(self, health: Mapping[str, Any]) -> Mapping[str, Any]:
        """`health` with the counts as ``shadow_refusals``, by plan and limit, if there are any."""
        with self._lock:
            counts = dict(self._counts)
        if not counts:
            return health
        by_plan: dict[str, dict[str, int]] = {}
        for (plan, limit), number in counts.items():
            by_plan.setdefault(plan, {})[limit or "any"] = number
        return {**health, "shadow_refusals": by_plan}
