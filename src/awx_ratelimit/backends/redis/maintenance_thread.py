"""The thread of a Redis backend: it sends what nobody waits for, and renews the leases that are open.

It is a thread so that a blocked event loop loses no leases. It is a daemon that holds its backend weakly, so that
neither keeps the other alive. What it is given it sends within a few hundredths of a second, unless the next claims
took it. It is started when it is first needed, and again when what was closed is used again.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias
from weakref import WeakMethod

_log = logging.getLogger("awx_ratelimit")
_JITTER = 0.1
#: How soon to try again what could not be done.
_RETRY_S = 1.0
#: Where no lease was opened yet: a third of it is how often to look whether anybody is left.
_IDLE_MS = 30_000
#: A longer ttl is renewed as one of an hour: no queue waits for years.
_LONGEST_MS = 3_600_000
_LINGER_S = 0.002
_LONGEST_LINGER_S = 0.016
#: What the thread is to do: a callable is the last thing that it does.
Signal: TypeAlias = Literal["send", "stop"] | Callable[[], object]


class ReleaseDelay:
    """How long what was released waits for the claims that could take it along: longer, the longer that they do.

    A thread that looks all the time costs those claims a tenth of their throughput.
    """

    def __init__(self) -> None:
        self.seconds = _LINGER_S

    def went(self, *, late: bool) -> None:
        """After the wait all was gone with claims; or `late`, something was left."""
        self.seconds = _LINGER_S if late else min(2 * self.seconds, _LONGEST_LINGER_S)


class MaintenanceThread:
    """Calls `turn(renew)` when there is something to send, and with `renew` true at every third of the shortest ttl.

    `turn` is a bound method that raises nothing and says whether all was done. It is called by one thread.
    """

    def __init__(self, turn: Callable[[bool], bool]) -> None:
        self._turn = WeakMethod(turn)
        # Its put() may come from a finalizer or a signal handler; that of no other queue may.
        self._signals: queue.SimpleQueue[Signal] = queue.SimpleQueue()
        self._awake = False
        self._shortest_ttl_ms: int | None = None
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._said = False

    def keep(self, ttl_ms: int) -> None:
        """A lease was opened that lapses after `ttl_ms`: from now on, renew often enough for it."""
        if self._shortest_ttl_ms is None or ttl_ms < self._shortest_ttl_ms:
            self._shortest_ttl_ms = ttl_ms
            self.wake()
        self.start()

    def start(self) -> None:
        """There is something to send now, or will be. Not for finalizers and signal handlers: see `wake`."""
        if self._thread is None:
            with self._changing:
                self._thread = self._thread or self._started()

    def _started(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name="awx_ratelimit leases", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads are allowed. Decisions need none, and the next one tries again.
            self._say(error)
            return None
        return thread

    def _say(self, error: RuntimeError) -> None:
        if not self._said:
            self._said = True
            _log.error("leases are not renewed, and their slots lapse after the ttl: %s", error)

    def wake(self) -> None:
        """There is something to send, once it is started."""
        if not self._awake:
            self._awake = True
            self._signals.put("send")

    def stop(self, until_s: float | None = None) -> None:
        """Let the thread end, and wait for that, at most until `until_s`. What it has not sent is not sent by it.

        Harmless twice.
        """
        with self._changing:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._signals.put("stop")
            thread.join(None if until_s is None else max(0.0, until_s - time.monotonic()))

    def leave(self, last: Callable[[], object]) -> None:
        """Nobody has the backend any more: let the thread, if there is one, call `last` and end. For finalizers."""
        if self._thread is not None:
            self._signals.put(last)

    def _run(self) -> None:
        renewed_s, done = time.monotonic(), True
        while True:
            until_due_s = renewed_s + self._interval_s() - time.monotonic()
            signal = self._signal(until_due_s if done else min(self._interval_s(), _RETRY_S))
            if callable(signal):
                signal()
                return
            turn = self._turn()
            if signal == "stop" or turn is None:
                return
            self._awake = False
            due = time.monotonic() >= renewed_s + self._interval_s() * (1 - _JITTER)
            done = turn(due)
            del turn
            if due and done:
                renewed_s = time.monotonic()

    def _signal(self, wait_s: float) -> Signal | None:
        try:
            return self._signals.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return None

    def _interval_s(self) -> float:
        # At random, so that processes that were started together do not all renew at once.
        return min(self._shortest_ttl_ms or _IDLE_MS, _LONGEST_MS) / 3000 * random.uniform(1 - _JITTER, 1)  # noqa: S311  # no secret
