"""`PeriodicThread`: a daemon thread that calls a method periodically, for as long as its object lives."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from copy import copy
from typing import Any, Self, TypeAlias
from weakref import WeakMethod

#: SimpleQueue is the only queue whose put() a finalizer or a signal handler may call.
_Signals: TypeAlias = "queue.SimpleQueue[Callable[[], Any] | None]"

_log = logging.getLogger("awx_ratelimit")


class PeriodicThread:
    """After `start`, calls the bound method `work` every `interval_s` seconds, and at once after `wake`.

    If `work` returns a number, the next call comes after that many seconds. An exception in `work` is logged, once
    until the next success; the thread continues. The thread ends when the object of `work` is freed. A child process
    has no thread until it calls `start`.
    """

    def __init__(self, name: str, work: Callable[[], float | None], interval_s: float) -> None:
        self._name = name
        self._work = WeakMethod(work)
        self._interval_s = interval_s
        self.renew()

    def renew(self) -> None:
        """In a child process: forget the thread, which does not exist there."""
        # Reentrant: a signal handler may call `stop` while its own thread is in `start`.
        self._lock = threading.RLock()
        self._signals: _Signals = queue.SimpleQueue()
        self._awake = False
        #: In each thread that was started: its own signals, even when the next thread has others.
        self._own = threading.local()
        #: It runs, or is about to.
        self.thread: threading.Thread | None = None
        self.is_stopped = self._has_failed = False

    def successor(self) -> Self:
        """Return a new thread for the same work, to use after `stop`: this one may outlive it, and ends by itself."""
        successor = copy(self)
        successor.renew()
        return successor

    def start(self) -> None:
        """Start the thread unless it runs. Raises RuntimeError if the process cannot start another thread."""
        with self._lock:
            if self.thread is None and not self.is_stopped:
                args = (self._signals,)
                thread = self.thread = threading.Thread(target=self._run, args=args, name=self._name, daemon=True)
                try:
                    thread.start()
                except BaseException:
                    if not thread.is_alive():
                        self.thread = None
                    raise

    def try_start(self) -> bool:
        """As `start`, without an error: return whether it worked. The first failure is logged; call it again later."""
        try:
            self.start()
        except RuntimeError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.error("the thread %s cannot be started: %s; will retry", self._name, error)
            return False
        return True

    def wake(self) -> None:
        """Call `work` now, or as soon as the thread runs."""
        if not self._awake:
            self._awake = True
            self._signals.put(None)

    def pause(self, seconds: float) -> bool:
        """For `work`: wait for `seconds`, or until the thread is to end. Returns whether it is to end.

        A `wake` meanwhile causes another call of `work`, as always.
        """
        until_s, is_woken = time.monotonic() + seconds, False
        signals: _Signals = getattr(self._own, "signals", self._signals)
        try:
            while (last := signals.get(timeout=max(0.0, until_s - time.monotonic()))) is None:
                is_woken = True
        except queue.Empty:
            return False
        else:
            signals.put(last)
            return True
        finally:
            if is_woken:
                signals.put(None)

    def stop(self, timeout_s: float, last: Callable[[], Any] | None = None) -> None:
        """End the thread for good, after a call of `last`, by default of `work`. A second call does nothing.

        Waits for the end for at most `timeout_s`.
        """
        with self._lock:
            self.is_stopped = True
        self._end(timeout_s, last or self._work())

    def _end(self, timeout_s: float, last: Callable[[], Any] | None) -> None:
        with self._lock:
            thread, self.thread = self.thread, None
            signals = self._signals
            if thread is not None:
                # The next thread has its own, because this one may go on after `timeout_s`.
                self._signals, self._awake = queue.SimpleQueue(), False
        if thread is not None:
            signals.put(last)
            # A signal handler in the middle of `start` cannot wait for the thread.
            if thread.is_alive():
                thread.join(timeout_s)

    def finish(self, last: Callable[[], Any]) -> None:
        """Let the thread, if it runs, call `last` and end. Never waits, so a finalizer may call it."""
        if self.thread is not None:
            self._signals.put(last)

    def _run(self, signals: _Signals) -> None:
        self._own.signals = signals
        failing, wait_s = False, self._interval_s
        while True:
            last = _next(signals, wait_s)
            work = last or self._work()
            if work is None:
                return
            self._awake = False
            try:
                wait_s = work() or self._interval_s
                failing = False
            except Exception as error:
                if not failing:
                    _log.warning("%s: %s; will retry", self._name, error)
                failing, wait_s = True, self._interval_s
            # A reference here would keep the object alive while this thread waits.
            del work
            if last is not None:
                return


def _next(signals: _Signals, wait_s: float) -> Callable[[], Any] | None:
    try:
        return signals.get(timeout=wait_s)
    except queue.Empty:
        return None
