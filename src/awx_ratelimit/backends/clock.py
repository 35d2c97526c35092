"""The time of this machine, in milliseconds since the epoch, carried on by a clock that does not jump."""

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_CHECK_EVERY_NS = 1_000_000_000
_MAX_DIFFERENCE_NS = 1_000_000_000


class SystemClock:
    """Wall time taken once and carried on by CLOCK_BOOTTIME, which counts through a suspend and ignores a set clock.

    Once a second it looks at the wall again, and takes its time anew when the two differ by more than a second.
    """

    __slots__ = ("_check_at_ns", "_epoch_ns")

    def __init__(self) -> None:
        self._check_at_ns = 0
        self._epoch_ns = time.time_ns() - time.clock_gettime_ns(_STEADY)

    def now_ms(self) -> int:
        """The time now."""
        steady_ns = time.clock_gettime_ns(_STEADY)
        if steady_ns >= self._check_at_ns:
            self._check_at_ns = steady_ns + _CHECK_EVERY_NS
            epoch_ns = time.time_ns() - steady_ns
            if abs(epoch_ns - self._epoch_ns) > _MAX_DIFFERENCE_NS:
                self._epoch_ns = epoch_ns
        return (self._epoch_ns + steady_ns) // 1_000_000
