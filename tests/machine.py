"""How late this machine is. Tests scale their limits on time by it.

A test that limits a duration runs a control at the same time, and multiplies its limit by how much longer the control
took than it should. So a busy machine makes tests slow, but does not make them fail.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")
_WAIT_S = 0.005
_COMPUTE_S = 0.05
_POLL_S = 0.01


class Stopwatch:
    """What `timed` has measured: `seconds`, and how late the control was meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._late_s: list[float] = []
        self._is_over = threading.Event()

    def limit(self, seconds: float) -> float:
        """Return a limit for this machine: `seconds` on an idle one, more on a busy one."""
        mean_s = sum(self._late_s) / len(self._late_s)
        return seconds * (1 + mean_s / _WAIT_S) + 2 * max(self._late_s)

    def run(self) -> None:
        """Wait again and again until the block has ended, at least once, and note how late each wait ended."""
        while True:
            began_s = time.monotonic()
            is_over = self._is_over.wait(_WAIT_S)
            if not is_over:
                self._late_s.append(time.monotonic() - began_s - _WAIT_S)
            elif self._late_s:
                return
            else:
                time.sleep(_WAIT_S)
                self._late_s.append(max(0.0, time.monotonic() - began_s - _WAIT_S))

    def stop(self) -> None:
        """End the control."""
        self._is_over.set()


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time a block, and run the control in another thread meanwhile."""
    watch = Stopwatch()
    control = threading.Thread(target=watch.run)
    control.start()
    began_s = time.monotonic()
    try:
        yield watch
    finally:
        watch.seconds = time.monotonic() - began_s
        watch.stop()
        control.join()


def slowness(samples: int = 10) -> float:
    """Return how many times longer a short wait or a short computation takes now than it should: at least 1."""
    began_s = time.monotonic()
    for _ in range(samples):
        time.sleep(_WAIT_S)
    waited_s = time.monotonic() - began_s
    # Linux soon runs a thread that has slept, and lets those that compute take turns. Most servers that start compute.
    began_s, used_s = time.monotonic(), time.thread_time()
    while time.thread_time() - used_s < _COMPUTE_S:
        pass
    computed_s = time.monotonic() - began_s
    return max(1.0, waited_s / (samples * _WAIT_S), computed_s / _COMPUTE_S)


def eventually(ask: Callable[[], _T], expected: _T, seconds: float = 5.0) -> _T:
    """Return what `ask` answers as soon as it equals `expected`, or when time is up.

    Time is up after `seconds`, or longer on a machine that is slow at that moment.
    """
    began_s, limit_s, is_scaled = time.monotonic(), seconds, False
    while (answer := ask()) != expected:
        if time.monotonic() - began_s > limit_s:
            if is_scaled:
                break
            # Measured only now: a test that passes in time pays nothing.
            limit_s, is_scaled = seconds * slowness(), True
        time.sleep(_POLL_S)
    return answer
