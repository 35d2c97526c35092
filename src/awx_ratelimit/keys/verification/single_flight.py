"""`SingleFlight`: one look-up per digest at a time, in threads that may hang without blocking a request.

A database that hangs blocks every thread that queries it. So requests do not query it themselves: a few worker threads
do, and a request gives up when its time is over. For a second after such a time-out, new look-ups fail at once.
"""

import queue
import threading
import time
from collections.abc import Callable
from copy import copy
from typing import Generic, Self, TypeAlias, TypeVar
from weakref import WeakMethod, finalize

from awx_ratelimit.errors import KeyStoreUnavailable

_Result = TypeVar("_Result")
_MAX_WORKERS = 4
_MAX_PENDING = 1_000
_COOLDOWN_S = 1.0


class _LookUp(Generic[_Result]):
    """One look-up under way, shared by all requests that wait for it."""

    __slots__ = ("digest", "done", "error", "result", "until_s")

    def __init__(self, digest: bytes, until_s: float) -> None:
        self.digest = digest
        self.until_s = until_s
        self.done = threading.Event()
        self.result: _Result | None = None
        self.error: Exception | None = None


_Queue: TypeAlias = queue.SimpleQueue[_LookUp[_Result] | None]


class SingleFlight(Generic[_Result]):
    """Calls `look_up` for digests that are not `cached`, and waits at most `budget_ms`."""

    def __init__(
        self, look_up: Callable[[bytes], _Result], cached: Callable[[bytes], _Result | None], budget_ms: int
    ) -> None:
        self._look_up = look_up
        self._cached = cached
        self._budget_s = budget_ms / 1000
        self.renew()

    def renew(self) -> None:
        """Reset in a child process, which has neither the look-ups nor the threads of its parent."""
        self._lock = threading.Lock()
        self._pending: dict[bytes, _LookUp[_Result]] = {}
        self._queue: _Queue[_Result] = queue.SimpleQueue()
        self._workers = 0
        self._unfinished = 0
        self._cooldown_until_s = 0.0
        self.is_closed = False
        # Idle threads refer only to the queue, so they do not keep this object alive. They end when it is collected.
        finalize(self, _stop_workers, self._queue).atexit = False

    def successor(self) -> Self:
        """Return a new one for the same look-ups, to use after `close`: those that hang now may end much later."""
        successor = copy(self)
        successor.renew()
        return successor

    def get(self, digest: bytes) -> _Result:
        """Return the result of one look-up, shared with all concurrent calls for this digest.

        Raises KeyStoreUnavailable if there is no result within the budget, counted from the first of these calls.
        """
        pending = self._join_or_start(digest)
        if isinstance(pending, _LookUp):
            pending.done.wait(max(0.0, pending.until_s - time.monotonic()))
            return self._result_of(pending)
        return pending

    def detach(self) -> None:
        """Let no later call join a look-up that is under way: it may have read outdated data."""
        with self._lock:
            self._pending = {}

    def close(self) -> None:
        """Stop the threads after their current look-ups, and start no more. You may call it twice."""
        with self._lock:
            self.is_closed = True
        _stop_workers(self._queue)

    def _join_or_start(self, digest: bytes) -> _LookUp[_Result] | _Result:
        with self._lock:
            now_s = time.monotonic()
            pending = self._pending.get(digest)
            if pending is not None and now_s < pending.until_s:
                return pending
            # A look-up may have finished since the caller has read the cache.
            cached = self._cached(digest)
            if cached is not None:
                return cached
            if self.is_closed:
                raise KeyStoreUnavailable("the key verifier is closed")
            if now_s < self._cooldown_until_s or len(self._pending) >= _MAX_PENDING:
                raise KeyStoreUnavailable("the key store has not answered in time; look-ups pause for a moment")
            pending = self._pending[digest] = _LookUp(digest, now_s + self._budget_s)
            self._queue.put(pending)
            self._unfinished += 1
            if self._workers < min(_MAX_WORKERS, self._unfinished):
                self._workers += 1
                args = (self._queue, WeakMethod(self._run))
                threading.Thread(target=_work, args=args, name="awx-key-look-up", daemon=True).start()
            return pending

    def _result_of(self, look_up: _LookUp[_Result]) -> _Result:
        if not look_up.done.is_set():
            with self._lock:
                self._cooldown_until_s = time.monotonic() + _COOLDOWN_S
            raise KeyStoreUnavailable(f"the key store has not answered within {self._budget_s * 1000:.0f} ms")
        if look_up.error is not None:
            # Every waiting thread raises its own error, because a traceback belongs to one thread.
            raise KeyStoreUnavailable(str(look_up.error)) from look_up.error
        assert look_up.result is not None  # done without an error
        return look_up.result

    def _run(self, look_up: _LookUp[_Result]) -> None:
        try:
            # If all waiting requests have given up meanwhile, there is nothing to do.
            if time.monotonic() < look_up.until_s:
                look_up.result = self._look_up(look_up.digest)
            else:
                look_up.error = KeyStoreUnavailable("the key store has not answered in time")
        except Exception as error:
            look_up.error = error
        with self._lock:
            self._unfinished -= 1
            if self._pending.get(look_up.digest) is look_up:
                del self._pending[look_up.digest]
        look_up.done.set()


def _work(look_ups: "_Queue[_Result]", run_method: "WeakMethod[Callable[[_LookUp[_Result]], None]]") -> None:
    while (look_up := look_ups.get()) is not None:
        run = run_method()
        if run is None:
            return
        run(look_up)
        # While this thread waits, it must not keep these objects alive.
        del run, look_up


def _stop_workers(look_ups: "_Queue[_Result]") -> None:
    for _ in range(_MAX_WORKERS):
        look_ups.put(None)
