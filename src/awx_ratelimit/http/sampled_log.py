"""`SampledLog`: rate-limited logging for events that clients can cause, so that no flood of requests fills a disk."""

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked


class SampledLog:
    """Writes at most one line of each kind per `interval_s`. The next line says how many were left out.

    A kind is a constant of the code, never text that a client chose, so the number of kinds is bounded.
    """

    def __init__(self, logger: logging.Logger, *, interval_s: float, clock: Callable[[], float] | None = None) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._clock = clock or monotonic
        #: By kind: when the next line may be written, and how many were left out since the last one.
        self._next: dict[str, tuple[float, int]] = {}
        self._renew_lock()
        register_after_fork(self._renew_lock)

    def write(self, level: int, kind: str, message: str, *args: Any) -> None:
        """Log ``message % args`` unless a line of this kind was written less than `interval_s` ago."""
        renew_if_forked()
        now_s = self._clock()
        with self._lock:
            next_s, left_out = self._next.get(kind, (now_s, 0))
            if now_s < next_s:
                self._next[kind] = (next_s, left_out + 1)
                return
            self._next[kind] = (now_s + self._interval_s, 0)
        if left_out:
            message, args = f"{message} (%d more like this were not logged)", (*args, left_out)
        self._logger.log(level, message, *args)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()
