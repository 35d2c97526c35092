"""`SingleFlight`: one look-up for each digest at a time, by threads that may hang without hanging a request.

A database that neither answers nor refuses holds whoever asks it. So nobody who waits for an answer asks: a few
threads do, and those who wait give up when their time is over. While it has just been so, others do not even begin.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar
from weakref import WeakMethod, finalize

from awx_ratelimit.errors import KeyStoreUnavailable

_Answer = TypeVar("_Answer")
_WORKERS = 4
_MOST_WAITING = 1_000
#: After a time-out, how long nobody waits again.
_REST_S = 1.0


class _Flight(Generic[_Answer]):
    """One look-up that is under way, and who waits for it."""

    __slots__ = ("answer", "digest", "error", "landed", "until_s")

    def __init__(self, digest: bytes, until_s: float) -> None:
        self.digest = digest
        self.until_s = until_s
        self.landed = threading.Event()
        self.answer: _Answer | None = None
        self.error: Exception | None = None


_Queue: TypeAlias = queue.SimpleQueue[_Flight[_Answer] | None]


class SingleFlight(Generic[_Answer]):
    """Asks `look_up` for what is not `known`, within `budget_ms`."""

    def __init__(
        self, look_up: Callable[[bytes], _Answer], known: Callable[[bytes], _Answer | None], budget_ms: int
    ) -> None:
        self._look_up = look_up
        self._known = known
        self._budget_s = budget_ms / 1000
        self.renew()

    def renew(self) -> None:
        """In a child process: no look-up is under way, and no thread is there."""
        self._lock = threading.Lock()
        self._under_way: dict[bytes, _Flight[_Answer]] = {}
        self._queue: _Queue[_Answer] = queue.SimpleQueue()
        self._workers = 0
        self._in_hand = 0
        self._rest_until_s = 0.0
        self._closed = False
        # A queue is what idle threads hold, and nothing of ours: so they end when nobody has us any more.
        finalize(self, _dismiss, self._queue).atexit = False

    def get(self, digest: bytes) -> _Answer:
        """The answer of one look-up, which others may share that ask at the same time.

        Raises KeyStoreUnavailable where there is none within the budget, from the moment it was asked for first.
        """
        flight = self._joined(digest)
        if isinstance(flight, _Flight):
            flight.landed.wait(max(0.0, flight.until_s - time.monotonic()))
            return self._landed(flight)
        return flight

    def detach(self) -> None:
        """From now on nobody joins a look-up that is under way: it may have read what is no longer so."""
        with self._lock:
            self._under_way = {}

    def close(self) -> None:
        """End the threads when they have answered, and ask nothing any more. Harmless twice."""
        with self._lock:
            self._closed = True
        _dismiss(self._queue)

    def _joined(self, digest: bytes) -> _Flight[_Answer] | _Answer:
        with self._lock:
            now_s = time.monotonic()
            flight = self._under_way.get(digest)
            if flight is not None and now_s < flight.until_s:
                return flight
            # It may have landed between the caller's look at what is known and this one.
            known = self._known(digest)
            if known is not None:
                return known
            if self._closed:
                raise KeyStoreUnavailable("the verifier of keys is closed")
            if now_s < self._rest_until_s or len(self._under_way) >= _MOST_WAITING:
                raise KeyStoreUnavailable("the key store has just not answered in time, and is not asked again yet")
            flight = self._under_way[digest] = _Flight(digest, now_s + self._budget_s)
            self._queue.put(flight)
            self._in_hand += 1
            if self._workers < min(_WORKERS, self._in_hand):
                self._workers += 1
                work = (self._queue, WeakMethod(self._fly))
                threading.Thread(target=_work, args=work, name="awx-key-look-up", daemon=True).start()
            return flight

    def _landed(self, flight: _Flight[_Answer]) -> _Answer:
        if not flight.landed.is_set():
            with self._lock:
                self._rest_until_s = time.monotonic() + _REST_S
            raise KeyStoreUnavailable(f"the key store has not answered within {self._budget_s * 1000:.0f} ms")
        if flight.error is not None:
            # Each who waits raises an error of its own, for a traceback belongs to one thread.
            raise KeyStoreUnavailable(str(flight.error)) from flight.error
        assert flight.answer is not None  # landed, and not with an error
        return flight.answer

    def _fly(self, flight: _Flight[_Answer]) -> None:
        try:
            # Whoever waited has given up while it stood in the queue: then nobody asks.
            if time.monotonic() < flight.until_s:
                flight.answer = self._look_up(flight.digest)
            else:
                flight.error = KeyStoreUnavailable("the key store has not answered in time")
        except Exception as error:
            flight.error = error
        with self._lock:
            self._in_hand -= 1
            if self._under_way.get(flight.digest) is flight:
                del self._under_way[flight.digest]
        flight.landed.set()


def _work(flights: "_Queue[_Answer]", flies: "WeakMethod[Callable[[_Flight[_Answer]], None]]") -> None:
    while (flight := flights.get()) is not None:
        fly = flies()
        if fly is None:
            return
        fly(flight)
        # Nothing is kept alive while this thread waits for the next.
        del fly, flight


def _dismiss(flights: "_Queue[_Answer]") -> None:
    for _ in range(_WORKERS):
        flights.put(None)
