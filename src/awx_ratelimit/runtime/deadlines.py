"""How long to wait for a server, when this process itself may be late.

An event loop that a handler blocks, a hub with many greenlets and threads that wait for the interpreter all wake up
late. By then the answer may lie in the socket unread, or the claim may not have been sent at all. Neither says anything
about the server. So each wait measures how late it was woken, and ends later by the longest such delay. Before it is
given up, what has arrived is taken. A wait for a server that hangs lasts for its budget and one delay at most.
"""

import asyncio
import math
import time
from types import TracebackType
from typing import Self

from awx_ratelimit.runtime.event_loops import needs_asyncio_error

#: A wait is measured in so many parts, so that a delay in its middle is seen too.
_PARTS = 5
_MIN_STEP_S = 0.001
#: A wait that ends later than this is delayed.
_IN_TIME_S = 0.000_5
#: Turns of a loop from a socket that can be read to the task that waits for the answer: the socket, the task that reads
#: it, the tasks that wait, and one to end in.
_TURNS = 4


class Deadline:
    """The end of a wait in a thread, in seconds of the monotonic clock, and how late the thread was woken so far.

    A call of several steps (`resume`) ends later by the longest delay of each. With `all_delays` it ends later by every
    delay: for a wait that ends with another one.
    """

    __slots__ = ("_all_delays", "_due_s", "_late_s", "_looked", "_step_s", "until_s", "was_late")

    def __init__(self, until_s: float = math.inf, *, all_delays: bool = False) -> None:
        self._all_delays = all_delays
        self.begin(until_s)

    def begin(self, until_s: float) -> bool:
        """Begin another wait, which ends at `until_s`. Whether that is still to come."""
        now_s = time.monotonic()
        self.until_s = until_s
        self._late_s = _IN_TIME_S
        self._due_s = now_s
        step_s = (until_s - now_s) / _PARTS
        self._step_s = step_s if step_s > _MIN_STEP_S else _MIN_STEP_S
        self._looked = self.was_late = False
        return step_s > 0

    def left_s(self) -> float:
        """How long is left, to wait for all of that. Raises TimeoutError when it is over."""
        now_s = time.monotonic()
        left_s = self.until_s - now_s
        if left_s <= 0:
            raise TimeoutError
        self._due_s = self.until_s
        return left_s

    def at_once_s(self) -> float:
        """How long is left for a step that needs nobody else; `resume` then takes its whole time for a delay.

        Raises TimeoutError when the time is over.
        """
        self.resume()
        left_s = self.until_s - self._due_s
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def begin_again(self) -> bool:
        """Whether a wait for all that was left ended so late that it proves nothing. Then it begins once more."""
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        if late_s < self._step_s:
            return False
        self.begin(now_s + late_s + _PARTS * self._step_s)
        return True

    def begin_late(self) -> None:
        """What was waited for is there. If its time is over, this process was late, and what follows has its own."""
        now_s = time.monotonic()
        if now_s >= self.until_s:
            self.begin(now_s + _PARTS * self._step_s)

    def wait_s(self) -> float:
        """How long to wait now; 0: look once without waiting. Ask `is_over` after a wait that brought nothing."""
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
        """Whether to give up, after a wait that brought nothing."""
        self.note()
        return self._looked

    def note(self) -> None:
        """Note how late the wait has ended."""
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        if late_s > self._late_s:
            self.until_s += late_s - self._late_s
            self._late_s = _IN_TIME_S if self._all_delays else late_s
            self.was_late |= late_s > self._step_s / _PARTS
        self._due_s = now_s

    def resume(self) -> None:
        """A step of the whole has ended, and the next begins. What was done since the last wait needed nobody else."""
        self.note()
        self._late_s = _IN_TIME_S
        if self.was_late:
            # Or a step that ended late would leave no time for the next.
            self.until_s = max(self.until_s, self._due_s + self._step_s)


class TaskDeadline:
    """``with TaskDeadline(seconds):`` raises TimeoutError in the running task at the end of a wait. See the module.

    It is `asyncio.timeout` for a process that may be late, without a coroutine to enter and one to leave. For
    `all_delays` see Deadline.
    """

    __slots__ = (
        "_all_delays", "_due_s", "_expired", "_handle", "_late_s", "_loop", "_step_s", "_task", "_turns", "_until_s",
        "_was",
    )  # fmt: skip

    def __init__(self, seconds: float, *, all_delays: bool = False) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            raise RuntimeError(needs_asyncio_error("AsyncGuardedBackend")) from None
        assert task is not None, "a deadline belongs to a task"
        self._task = task
        self._was = task.cancelling()
        self._loop = task.get_loop()
        self._step_s = seconds / _PARTS
        self._turns = _TURNS
        self._expired = False
        self._all_delays = all_delays
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
        """See Deadline."""
        self._late_s = 0.0

    def _look(self) -> None:
        now_s = self._loop.time()
        late_s = now_s - self._due_s
        if late_s > self._late_s:
            self._until_s += late_s - self._late_s
            self._late_s = 0.0 if self._all_delays else late_s
        if now_s < self._until_s:
            self._due_s = min(now_s + self._step_s, self._until_s)
            self._handle = self._loop.call_at(self._due_s, self._look)
        else:
            self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Let those who bring the answer have their turns."""
        self._turns -= 1
        if self._turns:
            self._handle = self._loop.call_soon(self._turn)
        else:
            self._expired = True
            self._task.cancel()
