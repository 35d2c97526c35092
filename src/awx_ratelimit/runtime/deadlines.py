"""Deadlines for waits on a server, which do not count delays of this process.

A blocked event loop, a busy gevent hub, and threads that wait for the interpreter all wake up late. By then the reply
may lie unread in the socket, or the claim may not have been sent. Neither is a fault of the server. So each wait
measures how late it woke up, and its deadline moves by the longest such delay. Before it gives up, it reads what has
arrived. A wait for a hanging server lasts for its budget and one delay at most.
"""

import asyncio
import math
import time
from types import TracebackType
from typing import Self

#: Each wait is split into this many parts, so that it notices a delay in its middle.
_PARTS = 5
_MIN_STEP_S = 0.001
#: A wait that ends later than this counts as delayed.
_IN_TIME_S = 0.000_5
#: Iterations of an event loop between a readable socket and the waiting task: the socket, the task that reads it, the
#: waiting tasks, and one to finish.
_TURNS = 4


class Deadline:
    """The deadline of a wait in a thread, in seconds of the monotonic clock. It moves by the delays of the thread.

    If a call has several steps (see `resume`), the deadline moves by the longest delay of each step. With `all_delays`
    it moves by every delay: use that for a wait that depends on another wait.
    """

    __slots__ = ("_all_delays", "_due_s", "_late_s", "_looked", "_step_s", "until_s", "was_late")

    def __init__(self, until_s: float = math.inf, *, all_delays: bool = False) -> None:
        self._all_delays = all_delays
        self.begin(until_s)

    def begin(self, until_s: float) -> bool:
        """Start a new wait until `until_s`. Returns whether that time is in the future."""
        now_s = time.monotonic()
        self.until_s = until_s
        self._late_s = _IN_TIME_S
        self._due_s = now_s
        step_s = (until_s - now_s) / _PARTS
        self._step_s = step_s if step_s > _MIN_STEP_S else _MIN_STEP_S
        self._looked = self.was_late = False
        return step_s > 0

    def left_s(self) -> float:
        """The remaining time, for one wait of that length. Raises TimeoutError if there is none."""
        now_s = time.monotonic()
        left_s = self.until_s - now_s
        if left_s <= 0:
            raise TimeoutError
        self._due_s = self.until_s
        return left_s

    def at_once_s(self) -> float:
        """The remaining time for a step that waits for nothing; `resume` then counts its whole duration as a delay.

        Raises TimeoutError if there is none.
        """
        self.resume()
        left_s = self.until_s - self._due_s
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def begin_again(self) -> bool:
        """If a wait from `left_s` ended so late that it proves nothing, start it again. Returns whether it did."""
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        if late_s < self._step_s:
            return False
        self.begin(now_s + late_s + _PARTS * self._step_s)
        return True

    def begin_late(self) -> None:
        """The awaited event has come. If the deadline has passed, this process was late: start a new wait."""
        now_s = time.monotonic()
        if now_s >= self.until_s:
            self.begin(now_s + _PARTS * self._step_s)

    def wait_s(self) -> float:
        """How long to wait now; 0: check once without waiting. Call `is_over` after a wait without a result."""
        now_s = time.monotonic()
        wait_s = self.until_s - now_s
        if wait_s <= 0:
            self._looked, self._due_s = True, now_s
            return 0.0
        if wait_s > self._step_s:
            wait_s = self._step_s
        self._due_s = now_s + wait_s
        return wait_s

    def is_over(self) -> bool:
        """Whether to give up, after a wait without a result."""
        self.note()
        return self._looked

    def note(self) -> None:
        """Measure how late the wait has ended."""
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        if late_s > self._late_s:
            self.until_s += late_s - self._late_s
            self._late_s = _IN_TIME_S if self._all_delays else late_s
            self.was_late |= late_s > self._step_s / _PARTS
        self._due_s = now_s

    def resume(self) -> None:
        """Start the next step of a call. Nothing since the last wait may have waited for anything."""
        now_s = time.monotonic()
        if now_s - self._due_s <= _IN_TIME_S and not self.was_late:
            # Nearly always.
            self._due_s, self._late_s = now_s, _IN_TIME_S
            return
        self.note()
        self._late_s = _IN_TIME_S
        if self.was_late:
            # Otherwise a late step would leave no time for the next one.
            self.until_s = max(self.until_s, self._due_s + self._step_s)


class TaskDeadline:
    """``with TaskDeadline(seconds):`` raises TimeoutError in the running task after the deadline. See the module.

    It is `asyncio.timeout` without the delays of this process, and without coroutines for entry and exit.
    """

    __slots__ = (
        "_due_s", "_expired", "_handle", "_late_s", "_loop", "_step_s", "_task", "_turns", "_until_s", "_was",
    )  # fmt: skip

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None, "a deadline belongs to a task"
        self._task = task
        self._was = task.cancelling()
        self._loop = task.get_loop()
        self._step_s = seconds / _PARTS
        self._turns = _TURNS
        self._expired = False
        self._late_s = 0.0
        now_s = self._loop.time()
        self._until_s = now_s + seconds
        self._due_s = now_s + self._step_s
        self._handle: asyncio.Handle = self._loop.call_at(self._due_s, self._look)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._expired and self._task.uncancel() <= self._was and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def resume(self) -> None:
        self._late_s = 0.0

    def _look(self) -> None:
        now_s = self._loop.time()
        late_s = now_s - self._due_s
        if late_s > self._late_s:
            self._until_s += late_s - self._late_s
            self._late_s = late_s
        if now_s < self._until_s:
            self._due_s = min(now_s + self._step_s, self._until_s)
            self._handle = self._loop.call_at(self._due_s, self._look)
        else:
            self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Give the tasks that bring the reply a chance to run."""
        self._turns -= 1
        if self._turns:
            self._handle = self._loop.call_soon(self._turn)
        else:
            self._expired = True
            self._task.cancel()
