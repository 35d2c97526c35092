"""The thread that releases and renews leases, so that a blocked event loop does not lose them.

It is a daemon and refers to its backend weakly, so neither keeps the other alive. It sends a release within a few
hundredths of a second, unless the next claims carried it.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.runtime.periodic_thread import PeriodicThread

_log = logging.getLogger("awx_ratelimit")
_JITTER = 0.1
#: Before the first lease, the thread wakes at a third of this to see whether its backend still exists.
_IDLE_MS = 30_000
#: A longer ttl is renewed like one of an hour: a queue cannot wait for years.
_MAX_TTL_MS = 3_600_000
_MIN_DELAY_S = 0.002
_MAX_DELAY_S = 0.016
#: Afterwards, releases are sent although claims are in flight. They may be those of another server.
_MAX_WAIT_S = 0.05


class ReleaseDelay:
    """How long releases wait for claims that can carry them. It doubles as long as claims carry them all.

    A thread that checked all the time would cost those claims a tenth of their throughput. While claims are in flight,
    their answers may bring the next ones, so that releases wait longer: sent alone, they would make a server that is
    late even later.
    """

    def __init__(self) -> None:
        #: The next wait, which the end of the thread cuts short.
        self.seconds = _MIN_DELAY_S
        self._waited_s = 0.0

    def goes_on(self, left_over: bool, in_flight: bool) -> bool:
        """After a wait: whether some releases are `left_over` that the claims after those in flight may carry."""
        self._waited_s += self.seconds
        self.seconds = _MIN_DELAY_S if left_over and not in_flight else min(2 * self.seconds, _MAX_DELAY_S)
        again = left_over and in_flight and self._waited_s + self.seconds <= _MAX_WAIT_S
        if not again:
            self._waited_s = 0.0
        return again


class MaintenanceThread(PeriodicThread):
    """Starts when it is first needed, and again if a closed backend is used again.

    `renewed_s` is when the leases were last renewed. They are due once in a third of the shortest ttl.
    """

    def __init__(self, work: Callable[[], float]) -> None:
        super().__init__("awx_ratelimit leases", work, _IDLE_MS / 3000)
        self.renewed_s = time.monotonic()
        #: The last plan whose leases it renews often enough, as long as it runs.
        self.renewed_plan: Plan | None = None
        self._shortest_ttl_ms: int | None = None
        self._has_logged = False

    def renew_for(self, plan: Plan) -> None:
        """A lease of `plan` is open: start the thread, and renew often enough for it."""
        if plan.concurrency is not None:
            ttl_ms = plan.concurrency.ttl_ms
            if self._shortest_ttl_ms is None or ttl_ms < self._shortest_ttl_ms:
                self._shortest_ttl_ms = ttl_ms
                self.wake()
            self.start()
        self.renewed_plan = plan

    def start(self) -> None:
        """Start the thread if it does not run. Not for finalizers and signal handlers: they call `wake`."""
        if self.thread is not None:
            return
        self.renewed_s = time.monotonic()
        try:
            super().start()
            # A thread that starts again first waits for an interval that may be longer than the ttl.
            self.wake()
        except RuntimeError as error:
            # The process has no more threads. Decisions need none, and the next one tries again.
            if not self._has_logged:
                self._has_logged = True
                _log.error("leases are not renewed, and their slots lapse after the ttl: %s", error)

    def stop(self, timeout_s: float, last: Callable[[], Any] | None = None) -> None:
        """Stop the thread, which sends nothing more. It may be started again, even while this still waits for it."""
        self._end(timeout_s, last or (lambda: None))

    def is_due(self) -> bool:
        """Whether to renew the leases now."""
        return time.monotonic() >= self.renewed_s + self.interval_s() * (1 - _JITTER)

    def interval_s(self) -> float:
        """The time between two renewals: random, so that processes that start together do not all renew at once."""
        return min(self._shortest_ttl_ms or _IDLE_MS, _MAX_TTL_MS) / 3000 * random.uniform(1 - _JITTER, 1)  # noqa: S311  # no secret
