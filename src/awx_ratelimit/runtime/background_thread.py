"""`BackgroundThread`: calls a function in a daemon thread, unless such a thread is under way."""

import threading
from collections.abc import Callable
from typing import Any


class BackgroundThread:
    """Runs functions in threads with this name, one at a time.

    A signal handler that raises in `start` leaves nothing locked. A child process must call `renew`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew()

    def renew(self) -> None:
        """In a child process: forget the thread, which does not exist there."""
        self._lock = threading.Lock()
        #: Whether `start` does nothing. What runs may set it to False, if what happens from now on needs another run.
        self.is_busy = False

    def start(self, act: Callable[..., Any], *arguments: Any) -> None:
        """Call `act` with these arguments, soon. If the process can start no thread, the next call tries again."""
        if self.is_busy:
            return
        thread = threading.Thread(target=self._run, args=(act, *arguments), name=self._name, daemon=True)
        # Two callers may both get here: their threads take turns.
        self.is_busy = True
        try:
            thread.start()
        except BaseException as error:
            # If a signal handler raised, the thread may have started.
            self.is_busy = thread.is_alive()
            if not isinstance(error, RuntimeError):
                raise

    def _run(self, act: Callable[..., Any], *arguments: Any) -> None:
        with self._lock:
            try:
                act(*arguments)
            finally:
                self.is_busy = False
