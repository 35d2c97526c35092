"""`PeriodicThread`: a daemon thread that calls a method periodically, for as long as its object lives."""

import logging
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_log = logging.getLogger("awx_ratelimit")


class PeriodicThread:
    """After `start`, calls the bound method `work` every `interval_s` seconds, and at once after `wake`.

    An exception in `work` is logged, once until the next success; the thread continues. `stop` ends the thread after a
    last call. The thread also ends when the object of `work` is freed. A child process has no thread until it calls
    `start`.
    """

    def __init__(self, name: str, work: Callable[[], Any], interval_s: float) -> None:
        self._name = name
        self._work = WeakMethod(work)
        self._interval_s = interval_s
        self.renew()

    def renew(self) -> None:
        """In a child process: forget the thread, which does not exist there."""
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the thread unless it runs. Raises RuntimeError if the process cannot start another thread."""
        with self._lock:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread

    def wake(self) -> None:
        """Call `work` now."""
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread for good, waiting `timeout_s` at most. A second call does nothing."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = True
            self._woken.set()
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        failing = False
        while True:
            self._woken.wait(self._interval_s)
            self._woken.clear()
            last = self._stopped
            work = self._work()
            if work is None:
                return
            try:
                work()
                failing = False
            except Exception as error:
                if not failing:
                    _log.warning("%s: %s; will retry", self._name, error)
                failing = True
            # A reference here would keep the object alive while this thread waits.
            del work
            if last:
                return
