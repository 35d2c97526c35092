"""How a claim that waits sleeps, in a thread and in a task, and by which clock."""

import queue
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from awx_ratelimit.runtime.clock import monotonic_ms
from awx_ratelimit.runtime.event_loops import runs_asyncio

#: One sleep takes no longer, so that every timer accepts it.
_LONGEST_SLEEP_MS: Final = 3_600_000


class AlarmClock(Protocol):
    """A clock of tests, such as ManualClock, that wakes those who wait for it."""

    def now_ms(self) -> int:
        """The time of this clock."""

    def call_at(self, at_ms: int, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function` when the clock reaches `at_ms`. Returns a function that cancels it."""


def alarm_clock_of(limiter: Any) -> AlarmClock | None:
    """The clock of a test that this limiter or one of its backends was given; None for real time."""
    part = limiter
    while part is not None:
        clock = getattr(part, "clock", None)
        # `isinstance` of a protocol takes as long as several decisions.
        if hasattr(clock, "call_at"):
            return clock
        part = getattr(part, "backend", None)
    return None


class _Sleep:
    """A sleep of one claim, which it may repeat."""

    #: Whether the event loop of the claim has ended, and with it the claim.
    has_ended = False
    #: That event loop; None in a thread.
    loop: Any = None

    def __init__(self, clock: AlarmClock | None) -> None:
        self._clock = clock
        self.now_ms = monotonic_ms if clock is None else clock.now_ms

    def wake(self) -> None:
        """End this sleep or the next one. Any thread may call it, and a signal handler."""
        raise NotImplementedError


class Sleep(_Sleep):
    """Sleeps in a thread."""

    def __init__(self, clock: AlarmClock | None) -> None:
        super().__init__(clock)
        # Not imported by name, because gevent replaces it. `put` may be called again while it runs.
        self._signals: Any = queue.SimpleQueue()

    def wake(self) -> None:
        self._signals.put(None)

    def until(self, at_ms: int) -> None:
        """Sleep until `at_ms`, or until somebody calls `wake`."""
        if self._clock is not None:
            cancel = self._clock.call_at(at_ms, self.wake)
            try:
                self._signals.get()
            finally:
                cancel()
            return
        try:
            self._signals.get(timeout=_seconds(at_ms))
        except queue.Empty:
            return


class _TaskSleep(_Sleep):
    """Sleeps in a task. A subclass knows the event loop."""

    def __init__(self, clock: AlarmClock | None, new_event: Callable[[], Any], call_soon: Callable[..., Any]) -> None:
        super().__init__(clock)
        self._new_event = new_event
        self._call_soon = call_soon
        self._event: Any = None
        self._woken = False

    def wake(self) -> None:
        self._woken = True
        try:
            self._call_soon(self._set)
        except RuntimeError:
            self.has_ended = True

    def _set(self) -> None:
        if self._event is not None:
            self._event.set()

    async def until(self, at_ms: int) -> None:
        """Sleep until `at_ms`, or until somebody calls `wake`."""
        event = self._event = self._new_event()
        cancel = None if self._clock is None else self._clock.call_at(at_ms, self.wake)
        try:
            if not self._woken:
                await self._wait(event, None if cancel else _seconds(at_ms))
        finally:
            self._event, self._woken = None, False
            if cancel is not None:
                cancel()

    async def _wait(self, event: Any, seconds: float | None) -> None:
        """Wait for `event`, and no longer than `seconds`."""
        raise NotImplementedError


class _AsyncioSleep(_TaskSleep):
    def __init__(self, clock: AlarmClock | None) -> None:
        import asyncio

        self.loop = asyncio.get_running_loop()
        super().__init__(clock, asyncio.Event, self.loop.call_soon_threadsafe)

    async def _wait(self, event: Any, seconds: float | None) -> None:
        timer = None if seconds is None else self.loop.call_later(seconds, event.set)
        try:
            await event.wait()
        finally:
            if timer is not None:
                timer.cancel()


class _TrioSleep(_TaskSleep):
    def __init__(self, clock: AlarmClock | None) -> None:
        self._trio: Any = sys.modules["trio"]
        self.loop = self._trio.lowlevel.current_trio_token()
        super().__init__(clock, self._trio.Event, self.loop.run_sync_soon)

    async def _wait(self, event: Any, seconds: float | None) -> None:
        with self._trio.move_on_after(float("inf") if seconds is None else seconds):
            await event.wait()


def async_sleep_by(clock: AlarmClock | None) -> _TaskSleep:
    """A sleep for the task that calls it. `clock` is that of a test; None is real time."""
    return _AsyncioSleep(clock) if runs_asyncio() else _TrioSleep(clock)


def sleep_by(clock: AlarmClock | None) -> Sleep:
    """A sleep for the thread that calls it. `clock` is that of a test; None is real time."""
    return Sleep(clock)


def _seconds(at_ms: int) -> float:
    return min(max(0, at_ms - monotonic_ms()), _LONGEST_SLEEP_MS) / 1_000
