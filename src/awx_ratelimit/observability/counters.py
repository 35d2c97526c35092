"""`EventCounter`: a counter for the hot path, exact with any number of threads."""

from itertools import count

from awx_ratelimit.runtime.forks import ForkSafeLock


class EventCounter:
    """Counts events. `add_one` is one call of C, so no thread can interrupt it; `value` is read under its own lock."""

    __slots__ = ("_lock", "_reads", "add_one")

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self.add_one = count().__next__
        self._reads = 0

    @property
    def value(self) -> int:
        """The number of calls of `add_one`."""
        with self._lock.current:
            # Reading counts too.
            number = self.add_one() - self._reads
            self._reads += 1
        return number
