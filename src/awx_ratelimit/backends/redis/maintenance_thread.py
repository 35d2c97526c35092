"""The thread that releases and renews leases, so that a blocked event loop does not lose them.

It is a daemon and refers to its backend weakly, so neither keeps the other alive. It sends a release within a few
hundredths of a second, unless the next claims carried it. It starts when it is first needed, and again if a closed
backend is used again.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias
from weakref import WeakMethod

_log = logging.getLogger("awx_ratelimit")
_JITTER = 0.1
_RETRY_S = 1.0
#: Before the first lease, the thread wakes at a third of this to see whether its backend still exists.
_IDLE_MS = 30_000
#: A longer ttl is renewed like one of an hour: a queue cannot wait for years.
_MAX_TTL_MS = 3_600_000
_MIN_DELAY_S = 0.002
_MAX_DELAY_S = 0.016
#: What the thread does next. A callable is the last thing that it does.
Signal: TypeAlias = Literal["send", "stop"] | Callable[[], object]


class ReleaseDelay:
    """How long releases wait for claims that can carry them. It doubles as long as claims carry them all.

    A thread that checked all the time would cost those claims a tenth of their throughput.
    """

    def __init__(self) -> None:
        self.seconds = _MIN_DELAY_S

    def adapt(self, *, left_over: bool) -> None:
        """After the wait: claims carried all releases, or some are `left_over`."""
        self.seconds = _MIN_DELAY_S if left_over else min(2 * self.seconds, _MAX_DELAY_S)


class MaintenanceThread:
    """Calls `work(renew)` when there is something to send. `renew` is true once in a third of the shortest ttl.

    `work` is a bound method that never raises and returns whether everything succeeded. One thread calls it.
    """

    def __init__(self, work: Callable[[bool], bool]) -> None:
        self._work = WeakMethod(work)
        # SimpleQueue is the only queue whose put() a finalizer or a signal handler may call.
        self._signals: queue.SimpleQueue[Signal] = queue.SimpleQueue()
        self._awake = False
        self._shortest_ttl_ms: int | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_logged = False

    def renew_within(self, ttl_ms: int) -> None:
        """A lease with this ttl is open: start the thread, and renew often enough for it."""
        if self._shortest_ttl_ms is None or ttl_ms < self._shortest_ttl_ms:
            self._shortest_ttl_ms = ttl_ms
            self.wake()
        self.start()

    def start(self) -> None:
        """Start the thread if it does not run. Not for finalizers and signal handlers: they call `wake`."""
        if self._thread is None:
            with self._lock:
                self._thread = self._thread or self._new_thread()

    def _new_thread(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name="awx_ratelimit leases", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The process has no more threads. Decisions need none, and the next one tries again.
            if not self._has_logged:
                self._has_logged = True
                _log.error("leases are not renewed, and their slots lapse after the ttl: %s", error)
            return None
        return thread

    def wake(self) -> None:
        """There is something to send. The thread does it once it runs."""
        if not self._awake:
            self._awake = True
            self._signals.put("send")

    def stop(self, until_s: float | None = None) -> None:
        """Stop the thread and wait for its end, at most until `until_s`. It sends nothing more. Harmless twice."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._signals.put("stop")
            thread.join(None if until_s is None else max(0.0, until_s - time.monotonic()))

    def finish(self, last: Callable[[], object]) -> None:
        """Let the thread, if it runs, call `last` and end. For the finalizer of the backend."""
        if self._thread is not None:
            self._signals.put(last)

    def _run(self) -> None:
        renewed_s, done = time.monotonic(), True
        while True:
            until_due_s = renewed_s + self._interval_s() - time.monotonic()
            signal = self._next_signal(until_due_s if done else min(self._interval_s(), _RETRY_S))
            if callable(signal):
                signal()
                return
            work = self._work()
            if signal == "stop" or work is None:
                return
            self._awake = False
            due = time.monotonic() >= renewed_s + self._interval_s() * (1 - _JITTER)
            done = work(due)
            del work
            if due and done:
                renewed_s = time.monotonic()

    def _next_signal(self, wait_s: float) -> Signal | None:
        try:
            return self._signals.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return None

    def _interval_s(self) -> float:
        # Random, so that processes that start together do not all renew at the same time.
        return min(self._shortest_ttl_ms or _IDLE_MS, _MAX_TTL_MS) / 3000 * random.uniform(1 - _JITTER, 1)  # noqa: S311  # no secret
