"""Deadlines of equal length for the tasks of event loops, with one timer per loop. See `deadlines` for late processes.

The time of a loop is counted without the delays of its process. By that clock, deadlines of one length end in the order
in which they began. So the timer looks only at the oldest one.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

from awx_ratelimit.runtime.event_loops import needs_asyncio_error

#: As in `deadlines`: parts of a wait, and iterations of the loop in which a late reply may still be read.
_PARTS = 5
_TURNS = 4
#: Sums of times are not exact.
_EXACT_S = 1e-6


class TaskDeadlines:
    """``with deadlines.begin():`` raises TimeoutError in the running task after `seconds` without delays."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timers: dict[asyncio.AbstractEventLoop, LoopTimer] = {}

    def begin(self) -> "_Deadline":
        """A deadline that begins now. Raises RuntimeError outside asyncio."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(needs_asyncio_error("AsyncGuardedBackend")) from None
        task = asyncio.current_task(loop)
        assert task is not None, "a deadline belongs to a task"
        return (self._timers.get(loop) or self._add(loop)).begin(task)

    def _add(self, loop: asyncio.AbstractEventLoop) -> "LoopTimer":
        timer = LoopTimer(loop, self._seconds)
        # Loops of other threads read the dict meanwhile.
        open_timers = {known: each for known, each in self._timers.copy().items() if not known.is_closed()}
        self._timers = {**open_timers, loop: timer}
        return timer


class _Deadline:
    """A deadline of one task, at `until_s` by the clock of its timer."""

    __slots__ = ("_is_expired", "_task", "_was", "is_over", "until_s")

    def __init__(self, task: "asyncio.Task[Any]", until_s: float) -> None:
        self._task = task
        self._was = task.cancelling()
        self._is_expired = False
        self.is_over = False
        self.until_s = until_s

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over = True
        if self._is_expired and self._task.uncancel() <= self._was and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel what the task waits for."""
        self._is_expired = self.is_over = True
        self._task.cancel()


class LoopTimer:
    """Looks a few times in `seconds` while there are deadlines, however many there are, and not at all otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._deadlines: deque[_Deadline] = deque()
        self._is_waiting = False
        #: All delays so far: the clock of the deadlines is that of the loop without them.
        self._lost_s = 0.0
        self._due_s = 0.0

    def begin(self, task: "asyncio.Task[Any]") -> _Deadline:
        """A deadline of `task` that begins now."""
        now_s = self._loop.time()
        if not self._is_waiting:
            self._wait(now_s, now_s + self._seconds)
        elif now_s > self._due_s:
            # A delay before a deadline has begun is not its own.
            self._lost_s += now_s - self._due_s
            self._due_s = now_s
        deadline = _Deadline(task, now_s - self._lost_s + self._seconds)
        self._deadlines.append(deadline)
        return deadline

    def _wait(self, now_s: float, until_s: float) -> None:
        self._is_waiting = True
        self._due_s = min(now_s + self._seconds / _PARTS, until_s)
        self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        self._lost_s += max(0.0, now_s - self._due_s)
        deadlines = self._deadlines
        while deadlines and deadlines[0].is_over:
            deadlines.popleft()
        left_s = deadlines[0].until_s - (now_s - self._lost_s) if deadlines else 0.0
        if left_s > _EXACT_S:
            self._wait(now_s, now_s + left_s)
        elif deadlines:
            # What happens until they end is a delay of the others.
            self._due_s = now_s
            self._turn(_TURNS, deadlines[0].until_s + _EXACT_S)
        else:
            self._is_waiting = False

    def _turn(self, turns: int, until_s: float) -> None:
        """Expire the deadlines up to `until_s`, after the tasks that bring replies have had a chance to run."""
        if turns:
            self._loop.call_soon(self._turn, turns - 1, until_s)
            return
        for deadline in self._deadlines:
            if deadline.until_s > until_s:
                break
            if not deadline.is_over:
                deadline.expire()
        self._look()
