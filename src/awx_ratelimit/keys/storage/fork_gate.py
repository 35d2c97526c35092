"""`ForkGate`: no database work is under way, and no connection is open, while the process forks.

A child must not use its parent's connections. SQLite's file locks belong to one process, and a child that closes an
inherited descriptor releases locks that it never held.
"""

import threading
from types import TracebackType

from awx_ratelimit.runtime.forks import renew_if_forked


class ForkGate:
    """A gate that any number of threads may be inside of (``with gate:``). While it is shut, new ones wait.

    Every wait is at most `max_wait_s`: give it the longest time that the work inside may take.
    """

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self.renew()

    def renew(self) -> None:
        """Reset the gate in a child process, where no thread is inside."""
        self._changed = threading.Condition()
        self._inside = 0
        self._open = True

    def __enter__(self) -> None:
        renew_if_forked()
        with self._changed:
            self._changed.wait_for(lambda: self._open, self._max_wait_s)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self) -> None:
        """Stop new threads from entering, and wait until all threads have left."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self._inside, self._max_wait_s)

    def reopen(self) -> None:
        """Let waiting threads enter."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
