"""The times that keys live by: the wall's for what is written, a steady one for how long something is believed."""

import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since the Unix epoch: `ManualClock` of `awx_ratelimit.testing` is one."""

    def now_ms(self) -> int:
        """The time now."""
        ...


class WallClock:
    """The machine's time, which other processes see as well."""

    __slots__ = ()

    def now_ms(self) -> int:
        """The time now."""
        return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Milliseconds from some moment on. Nobody can set it back, so nothing is believed longer than it may be."""
    return time.monotonic_ns() // 1_000_000
