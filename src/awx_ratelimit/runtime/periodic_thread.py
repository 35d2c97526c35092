"""`PeriodicThread`: a daemon thread that does one thing again and again, for as long as its owner lives."""

import logging
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_log = logging.getLogger("awx_ratelimit.keys")


class PeriodicThread:
    """Calls the bound method `work` every `interval_s` seconds, once it was started, and at once when it is woken.

    What `work` raises is logged, once until it succeeds again, and ends nothing. The thread ends with `stop`, after
    it has worked once more, and when the object that `work` belongs to is gone. In a child process there is none until
    it is started there.
    """

    def __init__(self, name: str, work: Callable[[], Any], interval_s: float) -> None:
        self._name = name
        self._work = WeakMethod(work)
        self._interval_s = interval_s
        self.renew()

    def renew(self) -> None:
        """In a child process: the thread is the parent's."""
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
        """Have it work now."""
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """End it, waiting `timeout_s` at most. Harmless twice, and final."""
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
                    _log.warning("%s: %s; it is tried again", self._name, error)
                failing = True
            # Or the owner would live as long as this thread waits.
            del work
            if last:
                return
