"""The thread of a host backend, which looks after the file once a second.

It is a daemon that holds its backend weakly, so that neither keeps the other alive.
"""

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_LOOK_EVERY_S = 1.0


class Keeper:
    """Calls `look()`, a bound method that raises nothing, every second from `start` to `stop`."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = WeakMethod(look)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin. It is called once."""
        threading.Thread(target=self._run, name="awx_ratelimit host", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end, without waiting for it. Harmless twice."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY_S):
            look = self._look()
            if look is None:
                return
            look()
            del look
