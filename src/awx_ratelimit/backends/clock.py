"""The time of this machine, in milliseconds since the epoch.

`SystemClock` carries it on by a clock that does not jump; `WallClock` says it as it is, to all processes the same.
"""

import time
from collections.abc import Callable
from math import trunc

_CHECK_EVERY_S = 0.1
_MAX_DIFFERENCE_S = 1.0
#: What the clocks may seem to differ by because they are not read at one moment.
_READING_S = 0.002


def _steady_s() -> float:
    """CLOCK_BOOTTIME; where there is none, the clock that is read anyhow."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class SystemClock:
    """Wall time taken once and carried on by CLOCK_BOOTTIME, which counts through a suspend and ignores a set clock.

    What is read for each decision is `time.monotonic`, which is cheaper and stands still in a suspend. How far
    CLOCK_BOOTTIME is ahead of it is looked at ten times a second, and so is the wall: the time is taken anew when the
    two differ by more than a second. So for 100 ms after a suspend the time may be late by its length; at any other
    time it is what CLOCK_BOOTTIME says.
    """

    __slots__ = ("now_ms",)

    def __init__(self) -> None:
        self.now_ms = _ticking()


class WallClock:
    """Wall time, steps and all: what every process of this machine reads alike."""

    __slots__ = ()

    @staticmethod
    def now_ms() -> int:
        """The time now."""
        return trunc(time.time() * 1000.0)


def _ticking() -> Callable[[], int]:
    """A function and not a method, and floats and not nanoseconds, for it is read at each decision."""
    read = time.monotonic
    start_s = read()
    ahead_s = _steady_s() - start_s
    epoch_s = time.time() - ahead_s - start_s
    offset_ms = (epoch_s + ahead_s) * 1000.0
    check_at_s = start_s + _CHECK_EVERY_S

    def check(now_s: float) -> None:
        nonlocal ahead_s, epoch_s, offset_ms, check_at_s
        check_at_s = now_s + _CHECK_EVERY_S
        steady_s, wall_s = _steady_s(), time.time()
        if read() - now_s > _READING_S:
            # This thread was interrupted in between: the difference would be one that there is not.
            return
        if abs(steady_s - now_s - ahead_s) > _READING_S:
            ahead_s = steady_s - now_s
        if abs(wall_s - steady_s - epoch_s) > _MAX_DIFFERENCE_S:
            epoch_s = wall_s - steady_s
        offset_ms = (epoch_s + ahead_s) * 1000.0

    def now_ms() -> int:
        now_s = read()
        if now_s >= check_at_s:
            check(now_s)
        return trunc(now_s * 1000.0 + offset_ms)

    return now_ms
