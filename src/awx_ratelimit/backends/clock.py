"""The time of this machine, in milliseconds since the epoch, carried on by a clock that does not jump."""

import time
from collections.abc import Callable

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_CHECK_EVERY_S = 1.0
_MAX_DIFFERENCE_S = 1.0


class SystemClock:
    """Wall time taken once and carried on by CLOCK_BOOTTIME, which counts through a suspend and ignores a set clock.

    Once a second it looks at the wall again, and takes its time anew when the two differ by more than a second.
    """

    __slots__ = ("now_ms",)

    def __init__(self) -> None:
        self.now_ms = _ticking()


def _ticking() -> Callable[[], int]:
    """A function and not a method, and seconds and not nanoseconds, for it is read at each decision."""
    read = time.clock_gettime
    epoch_s = time.time() - read(_STEADY)
    check_at_s = 0.0

    def now_ms() -> int:
        nonlocal epoch_s, check_at_s
        steady_s = read(_STEADY)
        if steady_s >= check_at_s:
            check_at_s = steady_s + _CHECK_EVERY_S
            wall_epoch_s = time.time() - steady_s
            if abs(wall_epoch_s - epoch_s) > _MAX_DIFFERENCE_S:
                epoch_s = wall_epoch_s
        return int((epoch_s + steady_s) * 1000.0)

    return now_ms
