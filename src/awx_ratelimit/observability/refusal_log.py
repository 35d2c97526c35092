"""`RefusalLog`: a listener that writes refusals to the log, structured and sampled, and those of limits in shadow.

A flood must not become a flood of lines: at most so many a second are written, and each says how many were left out
before it. A line names the subject, the plan and the limits; a key is in none, for a subject is never a key.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.observability.shadow import shadow_refusals
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit.refusals")
_REFUSED = "refused %(subject)r under %(plan)s by %(limits)s: cost %(cost)d, retry after %(retry_after_ms)d ms"
_SHADOW = "would have refused %(subject)r under %(plan)s by %(shadow_limits)s, in shadow: cost %(cost)d"


class RefusalLog:
    """Give it to a limiter: ``Limiter(backend, listeners=[RefusalLog()])``.

    Writes at most `lines_per_second` (at least 1) to the logger ``awx_ratelimit.refusals`` at `level`. Each record has
    the fields ``subject``, ``plan``, ``cost``, ``limits``, ``shadow_limits``, ``retry_after_ms`` and ``left_out`` as
    attributes, for structured handlers. `clock` gives seconds, for tests.

    An allowed claim that a limit in shadow would have refused is a line too, with empty ``limits``. As many of these
    lines are written, and counted apart, so that neither kind crowds out the other.
    """

    def __init__(
        self, *, lines_per_second: int = 10, level: int = logging.WARNING, clock: Callable[[], float] = monotonic
    ) -> None:
        if lines_per_second < 1:
            raise ValueError(f"lines_per_second is {lines_per_second!r}; allowed is a number of at least 1")
        self._lines_per_second = lines_per_second
        self._level = level
        self._clock = clock
        self._renew_lock()
        register_after_fork(self._renew_lock)
        self._refused = _Sample()
        self._shadow = _Sample()

    def __call__(self, decision: Decision) -> None:
        """Write the decision if it is a refusal, or would have been, and its turn has come."""
        if not decision.exceeded:
            return
        left_out = self._turn(self._shadow if decision.allowed else self._refused)
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
        _log.log(self._level, _SHADOW if decision.allowed else _REFUSED, fields, extra=fields)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _turn(self, sample: "_Sample") -> int | None:
        """How many were left out before this one; None where it is left out itself."""
        renew_if_forked()
        with self._lock:
            second = int(self._clock())
            if second != sample.second:
                sample.second, sample.written = second, 0
            if sample.written >= self._lines_per_second:
                sample.left_out += 1
                return None
            sample.written += 1
            left_out, sample.left_out = sample.left_out, 0
            return left_out


class _Sample:
    """The lines of one kind: how many were written in this second, and left out since the last one."""

    def __init__(self) -> None:
        self.second = -1
        self.written = 0
        self.left_out = 0
