"""What a limiter does with each Decision: it calls the listeners, and counts the refusals of shadow limits.

`RefusalLog` is a listener. A flood of refusals must not become a flood of log lines. So the number of lines per second
is bounded, and each line has the number of lines that were left out before it. A line never contains an API key,
because a subject is never one.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import is_
from time import monotonic
from typing import Any

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.forks import ForkSafeLock, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
Listener = Callable[[Decision], Any]


def checked_listeners(listeners: Any) -> tuple[Listener, ...]:
    """Return `listeners` as a tuple.

    Raises TypeError unless each can be called with a Decision, and ValueError if one is there twice.
    """
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners: expected a list, got {type_name(listeners)}; write listeners=[listener]")
    checked: tuple[Listener, ...] = tuple(listeners)
    for number, listener in enumerate(checked):
        is_async = inspect.iscoroutinefunction(listener)
        if is_async or isinstance(listener, type) or not callable(listener):
            got = "a coroutine function, which nothing awaits" if is_async else type_name(listener)
            remedy = f"; write {listener.__name__}()" if isinstance(listener, type) else ""
            raise TypeError(f"listeners[{number}]: expected a function that takes a Decision, got {got}{remedy}")
        if any(map(partial(is_, listener), checked[:number])):
            raise ValueError(f"listeners[{number}]: expected each listener once; it would count everything twice")
    return checked


def reporter(listeners: tuple[Listener, ...], release: Listener) -> Listener | None:
    """A function that calls each listener; None without listeners.

    Exceptions are logged. A cancellation or an exit releases the decision and propagates.
    """
    calls: tuple[Any, ...] = tuple(
        listener.reporter(release) if hasattr(listener, "reporter") else listener for listener in listeners
    )
    if calls and not any(map(is_, calls, listeners)):
        # They raise no Exception.
        return _chained(calls, release)
    return partial(_notify, calls, release) if calls else None


def _chained(calls: tuple[Listener, ...], release: Listener) -> Listener:
    """A function that calls each of `calls`. Faster than a loop."""
    first = calls[0]
    if len(calls) == 1:
        return first
    others = _chained(calls[1:], release)

    def report(decision: Decision) -> None:
        try:
            first(decision)
            others(decision)
        except BaseException:
            release(decision)
            raise

    return report


def _notify(listeners: tuple[Listener, ...], release: Listener, decision: Decision) -> None:
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
    """The names of the exceeded shadow limits."""
    if isinstance(decision, JointDecision):
        return [usage.limit for usage in decision.usages if usage.refused and usage.shadow]
    plan = decision.plan
    exceeded = decision.exceeded & ~plan.enforced
    if not exceeded:
        return []
    names = [rate.name for _, bit, rate in plan.numbered_rates if exceeded & bit]
    return [*names, CONCURRENT] if exceeded & plan.slot_bit else names


class ShadowCounts:
    """Counts the refusals of each shadow limit, by plan. Thread-safe. It stores no subjects."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = ForkSafeLock()

    def count(self, decision: Decision) -> None:
        """Count the shadow refusals of `decision`."""
        for limit in shadow_refusals(decision):
            key = decision.plan.name, limit
            with self._lock.current:
                if key not in self._counts and len(self._counts) >= _MAX_LIMITS:
                    key = OTHER_PLANS, ""
                self._counts[key] = self._counts.get(key, 0) + 1

    def added_to(self, health: Mapping[str, Any]) -> Mapping[str, Any]:
        """`health` with the counts as ``shadow_refusals``, by plan and limit, if there are any."""
        with self._lock.current:
            counts = dict(self._counts)
        if not counts:
            return health
        by_plan: dict[str, dict[str, int]] = {}
        for (plan, limit), number in counts.items():
            by_plan.setdefault(plan, {})[limit or "any"] = number
        return {**health, "shadow_refusals": by_plan}


_refusal_log = logging.getLogger("awx_ratelimit.refusals")
_REFUSED = "refused %(subject)r under %(plan)s by %(limits)s: cost %(cost)s, retry after %(retry_after_ms)d ms"
_SHADOW = "would have refused %(subject)r under %(plan)s by %(shadow_limits)s, in shadow: cost %(cost)s"


class RefusalLog:
    """Give it to a limiter: ``Limiter(backend, listeners=[RefusalLog()])``.

    Writes at most `lines_per_second` (at least 1) to the logger ``awx_ratelimit.refusals`` at `level`. Each record has
    the fields ``subject``, ``plan``, ``cost``, ``limits``, ``shadow_limits``, ``retry_after_ms`` and ``left_out`` as
    attributes, for structured handlers. `clock` gives seconds, for tests.

    An allowed claim that a shadow limit would have refused is logged with empty ``limits``. The two kinds of lines
    have separate bounds and counts, so that neither crowds out the other. Raises ValueError for a wrong
    `lines_per_second`.
    """

    def __init__(
        self, *, lines_per_second: int = 10, level: int = logging.WARNING, clock: Callable[[], float] = monotonic
    ) -> None:
        if lines_per_second < 1:
            raise ValueError(f"lines_per_second: expected a number >= 1, got {lines_per_second!r}")
        self._lines_per_second = lines_per_second
        self._level = level
        self._clock = clock
        self._lock = ForkSafeLock()
        self._refused = _LineCounter()
        self._shadow = _LineCounter()

    def __call__(self, decision: Decision) -> None:
        """Log `decision` if it is a refusal, or a refusal of a shadow limit, and the bound allows a line."""
        if not decision.has_exceeded:
            return
        left_out = self._count_line(self._shadow if decision.allowed else self._refused)
        if left_out is None:
            return
        limits = [usage.limit for usage in decision.usages if usage.refused and not usage.shadow]
        fields = {
            "subject": decision.subject,
            "plan": decision.plan.name,
            "cost": decision.cost,
            "limits": limits,
            "shadow_limits": shadow_refusals(decision),
            "retry_after_ms": decision.retry_after_ms,
            "left_out": left_out,
        }
        _refusal_log.log(self._level, _SHADOW if decision.allowed else _REFUSED, fields, extra=fields)

    def _count_line(self, counter: "_LineCounter") -> int | None:
        """The number of lines left out before this one; None to leave this one out too."""
        renew_if_forked()
        with self._lock.current:
            second = int(self._clock())
            if second != counter.second:
                counter.second, counter.written = second, 0
            if counter.written >= self._lines_per_second:
                counter.left_out += 1
                return None
            counter.written += 1
            left_out, counter.left_out = counter.left_out, 0
            return left_out


class _LineCounter:
    """One kind of line: the number written in this second, and the number left out since the last line."""

    def __init__(self) -> None:
        self.second = -1
        self.written = 0
        self.left_out = 0
