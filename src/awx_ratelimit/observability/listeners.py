"""What a limiter does with each Decision: it calls the listeners, and counts the refusals of limits in shadow."""

import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.forks import register_after_fork

_log = logging.getLogger("awx_ratelimit")
Listener = Callable[[Decision], Any]


def checked_listeners(listeners: Any) -> tuple[Listener, ...]:
    """Return `listeners` as a tuple. Raises TypeError unless each can be called with a Decision."""
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners is {type_name(listeners)}; write listeners=[listener], a list")
    checked: tuple[Listener, ...] = tuple(listeners)
    for number, listener in enumerate(checked):
        if isinstance(listener, type):
            raise TypeError(f"listeners[{number}] is {type_name(listener)}; create an instance: {listener.__name__}()")
        if not callable(listener):
            raise TypeError(f"listeners[{number}] is {type_name(listener)}; use a function that takes a Decision")
        if inspect.iscoroutinefunction(listener):
            raise TypeError(f"listeners[{number}] is a coroutine function; write it with `def`: nothing awaits it")
    return checked


def notify(listeners: tuple[Listener, ...], decision: Decision, release: Listener) -> None:
    """Call each listener. Exceptions are logged; a cancellation or an exit releases the decision and propagates."""
    for listener in listeners:
        try:
            listener(decision)
        except Exception:
            _log.exception("a listener of decisions failed")
        except BaseException:
            # The caller never gets this decision, so it cannot release it.
            release(decision)
            raise


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
