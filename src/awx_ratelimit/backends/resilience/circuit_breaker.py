"""A circuit breaker as a state machine, without a clock, locks or random numbers of its own.

    closed      every claim goes to the backend. After 5 failures in a row, or 10 in the last 20 results, it opens.
    open        no claim goes to the backend until a pause is over. The pause grows while the outage lasts.
    half-open   after the pause, one claim probes the backend; the others are still held back. If the probe succeeds,
                the breaker closes. If it fails, the next pause begins.

A probe without a result is forgotten after a while. Each claim that may go gets a ticket. Results from before the last
state change are ignored. Results count per call, not per claim: claims that share a call succeed or fail as one.
Two threads that arrive at the same moment may both probe. That costs one extra call, and saves a lock.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from awx_ratelimit.backends.base import HasServers
from awx_ratelimit.core.budget import Record

#: This many failures in a row open the breaker.
MAX_CONSECUTIVE_FAILURES = 5
#: The breaker also opens if half of this many results are failures.
WINDOW = 20
_FIRST_PAUSE_S = 0.25
_MAX_PAUSE_S = 2.0
_PROBE_TIMEOUT_S = 5.0
#: A pause lasts at least this share of its length, at random: processes should not all probe at the same moment.
_MIN_PAUSE_SHARE = 0.5


class CircuitBreaker:
    """One circuit breaker. Times are seconds of a monotonic clock; `chance` is a random number from 0 to 1."""

    def __init__(self, part: Any = None) -> None:
        #: The part of the backend that it protects, such as a server of a cluster.
        self.part = part
        self.is_closed = True
        #: The number of counted failures.
        self.failures = 0
        self._last_call: int | None = None
        self._ticket = 0
        self._consecutive_failures = 0
        self._results_failed: deque[bool] = deque(maxlen=WINDOW)
        self._pause_s = _FIRST_PAUSE_S
        self._next_probe_s = 0.0

    def permit(self, now_s: float) -> int | None:
        """A ticket for a claim that may go to the backend; None if it may not."""
        if not self.is_closed:
            if now_s < self._next_probe_s:
                return None
            self._next_probe_s = now_s + _PROBE_TIMEOUT_S
        return self._ticket

    def would_permit(self, now_s: float) -> bool:
        """Whether `permit` would give a ticket."""
        return self.is_closed or now_s >= self._next_probe_s

    def is_unused(self, now_s: float) -> bool:
        """Whether it is open and no claim has come to probe for a long time."""
        return not self.is_closed and now_s > self._next_probe_s + _PROBE_TIMEOUT_S

    def on_success(self, ticket: int, call: int | None = None) -> bool:
        """Record a success. Returns whether that ends an outage.

        `call` is the number of the last answered call: each number counts once. None always counts.
        """
        if ticket != self._ticket:
            return False
        self._consecutive_failures = 0
        if call is None or call != self._last_call:
            self._last_call = call
            self._results_failed.append(False)
        if self.is_closed:
            return False
        self._change_state(closed=True)
        return True

    def on_failure(self, ticket: int, now_s: float, chance: float) -> bool:
        """Record a failure. Returns whether that begins an outage."""
        if ticket != self._ticket:
            return False
        self.failures += 1
        self._consecutive_failures += 1
        self._results_failed.append(True)
        reached = self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES or 2 * sum(self._results_failed) >= WINDOW
        opens = self.is_closed and reached
        if opens:
            self._change_state(closed=False)
        if not self.is_closed:
            self._next_probe_s = now_s + self._pause_s * (_MIN_PAUSE_SHARE + (1 - _MIN_PAUSE_SHARE) * chance)
            self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
        return opens

    def on_no_result(self, ticket: int, now_s: float) -> None:
        """A claim ended late or was cancelled. The state stays; an open breaker soon lets another claim probe."""
        if ticket == self._ticket and not self.is_closed:
            self._next_probe_s = now_s + _FIRST_PAUSE_S

    def _change_state(self, *, closed: bool) -> None:
        self.is_closed = closed
        self._ticket += 1
        self._consecutive_failures = 0
        self._results_failed.clear()
        self._pause_s = _FIRST_PAUSE_S


class CircuitBreakers:
    """One circuit breaker for each part of `backend`. A backend without ``home(record)`` has one part.

    Any thread may use it: each step is one step of a dict. The breaker of a part without records is dropped.
    """

    def __init__(self, backend: Any) -> None:
        #: The part that a record is on.
        self.home: Callable[[Record], Hashable] = backend.home if isinstance(backend, HasServers) else lambda _: None
        self._breakers: dict[Hashable, CircuitBreaker] = {}

    def of(self, record: Record) -> CircuitBreaker:
        """The circuit breaker for `record`."""
        home = self.home(record)
        return self._breakers.get(home) or self._breakers.setdefault(home, CircuitBreaker(home))

    def count_open(self, now_s: float) -> int:
        """The number of open breakers that are still used."""
        for home, breaker in self._breakers.copy().items():
            if breaker.is_unused(now_s):
                self._breakers.pop(home, None)
        return sum(not breaker.is_closed for breaker in self._breakers.copy().values())
