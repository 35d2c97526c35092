"""`Turnstile`: lets work through, and holds it back while the process forks.

A database's connection must not be doubled: SQLite's file locks belong to a process, and a child that closes what it
inherited lets go of what it never held. So a fork waits until nobody is inside, and finds nothing open.
"""

import threading
from types import TracebackType

from awx_ratelimit.runtime.forks import renew_if_forked


class Turnstile:
    """Any number of threads may be inside at once (``with turnstile:``), and none while it is shut.

    Nobody waits longer than `longest_wait_s`: give it the longest that work inside may take.
    """

    def __init__(self, longest_wait_s: float) -> None:
        self._longest_wait_s = longest_wait_s
        self.renew()

    def renew(self) -> None:
        """In a child process: nobody is inside."""
        self._changed = threading.Condition()
        self._inside = 0
        self._open = True

    def __enter__(self) -> None:
        renew_if_forked()
        with self._changed:
            self._changed.wait_for(lambda: self._open, self._longest_wait_s)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in, and wait until nobody is inside."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self._inside, self._longest_wait_s)

    def reopen(self) -> None:
        """Let those in who wait."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
