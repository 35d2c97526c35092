"""`FlushableThread`: a `PeriodicThread` whose next attempt others can wait for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from awx_ratelimit.runtime.periodic_thread import PeriodicThread

FLUSH_TIMEOUT_S: Final = 2.0


class FlushableThread(PeriodicThread):
    """A `PeriodicThread` whose `work` makes each of its attempts in ``with thread.attempt():``.

    `is_failing` is whether the last attempt has failed, or has not ended in the time of a `flush`. Call
    `renew_if_forked` before `attempt` and `flush`.
    """

    def renew(self) -> None:
        """In a child process: forget the thread, and the attempts of the parent."""
        super().renew()
        self.attempt_lock = threading.Lock()
        self._done = threading.Event()
        self.is_failing = False

    def successor(self) -> Self:
        """As for a `PeriodicThread`. Attempts of both exclude each other."""
        successor = super().successor()
        successor.attempt_lock = self.attempt_lock
        return successor

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Make one attempt at a time. At its end, every `flush` that began before it returns."""
        with self.attempt_lock:
            done, self._done = self._done, threading.Event()
            try:
                yield
            except BaseException:
                self.is_failing = True
                raise
            else:
                self.is_failing = False
            finally:
                done.set()

    def flush(self) -> None:
        """Wake the thread, and wait for an attempt for at most 2 s. Does not wait while attempts fail, or after `stop`.

        Never raises.
        """
        done, is_useless = self._done, self.is_failing or self.is_stopped
        is_useless |= not self.try_start()
        self.wake()
        if not is_useless and not done.wait(FLUSH_TIMEOUT_S):
            self.is_failing = True
