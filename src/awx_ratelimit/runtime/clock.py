"""Clocks, and the one RFC 3339 formatter.

Use `SystemClock` for decisions in one process, `WallClock` where several processes compare times, and `monotonic_ms`
for how old something in memory is.
"""

import time
from collections.abc import Callable
from datetime import datetime
from math import floor
from typing import Final, Protocol

_CHECK_INTERVAL_S: Final = 0.1
_MAX_DIFFERENCE_S: Final = 1.0
#: Two clocks cannot be read at the same instant. A smaller difference between them means nothing.
_READING_S: Final = 0.002


class Clock(Protocol):
    """Milliseconds since the Unix epoch. The time may jump in either direction."""

    def now_ms(self) -> int:
        """Return the current time."""


class SystemClock:
    """Wall time read once and then advanced by CLOCK_BOOTTIME, which counts suspends and ignores clock changes.

    Each call reads `time.monotonic`, which is cheaper but stops during a suspend. Ten times a second the clock also
    reads CLOCK_BOOTTIME and the wall time, and takes the wall time again if the two differ by more than a second. So
    for 100 ms after a suspend the time may be late by the length of the suspend.
    """

    __slots__ = ("now_ms",)

    def __init__(self) -> None:
        self.now_ms = _ticking()


class WallClock:
    """Wall time, including its jumps: all processes of this machine read the same value."""

    __slots__ = ()

    @staticmethod
    def now_ms() -> int:
        """Return the current time."""
        return floor(time.time() * 1000.0)


def monotonic_ms() -> int:
    """Return milliseconds since an arbitrary start. Nobody can set this clock back, so use it for ages."""
    return floor(time.monotonic() * 1000.0)


def rfc3339(at: datetime) -> str:
    """Return a UTC time as RFC 3339 with whole seconds: ``2025-06-01T10:00:00Z``."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _boottime_s() -> float:
    """Return CLOCK_BOOTTIME, or the monotonic clock on systems without it."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def _ticking() -> Callable[[], int]:
    """Return the `now_ms` of a SystemClock. Every decision calls it: a closure over floats is the fastest form."""
    read = time.monotonic
    start_s = read()
    ahead_s = _boottime_s() - start_s
    epoch_s = time.time() - ahead_s - start_s
    offset_ms = (epoch_s + ahead_s) * 1000.0
    check_at_s = start_s + _CHECK_INTERVAL_S

    def check(now_s: float) -> None:
        nonlocal ahead_s, epoch_s, offset_ms, check_at_s
        check_at_s = now_s + _CHECK_INTERVAL_S
        boottime_s, wall_s = _boottime_s(), time.time()
        if read() - now_s > _READING_S:
            # This thread was interrupted between the readings, so their difference is meaningless.
            return
        if abs(boottime_s - now_s - ahead_s) > _READING_S:
            ahead_s = boottime_s - now_s
        if abs(wall_s - boottime_s - epoch_s) > _MAX_DIFFERENCE_S:
            epoch_s = wall_s - boottime_s
        offset_ms = (epoch_s + ahead_s) * 1000.0

    def now_ms() -> int:
        now_s = read()
        if now_s >= check_at_s:
            check(now_s)
        return floor(now_s * 1000.0 + offset_ms)

    return now_ms
