"""Batches the claims of threads: the first thread sends for all, and is the leader.

While the leader waits for the reply, other threads join the next batch. The first of them leads that batch. Every exit
from a wait (a result, an error, an exception from a signal handler) passes the lead on. If a leader is lost all the
same, a thread whose time is up takes over the lead.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from awx_ratelimit.backends.remote.batching import BatchQueue
from awx_ratelimit.backends.remote.replies import Call, Reply, copied_error, not_sent_error
from awx_ratelimit.backends.remote.sent import Sent
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline

#: A call ends by this share of its timeout early, so that the waiting threads hear of its end in time.
_RESERVE = 0.02

C = TypeVar("C")
R = TypeVar("R")


class _Waiter(Generic[C, R]):
    """A thread and its claim. The batching's lock guards it.

    `wake` is released when it has a result or must lead. A thread that leads at once has none.
    """

    __slots__ = ("claim", "error", "left", "result", "until_s", "wake")

    def __init__(self, claim: C, until_s: float) -> None:
        self.claim = claim
        self.until_s = until_s
        self.result: R | None = None
        self.error: BackendUnavailable | None = None
        self.left = False
        self.wake: threading.Lock | None = None

    def wait_for_wake(self) -> None:
        """Prepare to wait."""
        self.wake = threading.Lock()
        self.wake.acquire()

    def wake_up(self) -> None:
        # A thread that must lead and has not started yet may get another signal.
        if self.wake is not None and self.wake.locked():
            self.wake.release()


def _woken(wake: threading.Lock, wait_s: float) -> bool:
    """Wait for `wake`, at most `wait_s`. Whether it was released."""
    if wait_s:
        return wake.acquire(timeout=wait_s)
    # Let the thread run that reads the reply: a greenlet that only looks gives it no chance.
    time.sleep(0)
    return wake.acquire(blocking=False)


class ThreadBatching(Generic[C, R]):
    """Sends the claims of many threads in few calls of `run`, which returns the replies to all calls or raises.

    No thread waits longer than `timeout_s` plus the delays of its own process, including the wait for the call before.
    `run` gets the end of its time, in seconds of the monotonic clock. `prepare` makes the calls of a batch. `abandon`
    gets each result whose caller has gone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Call], float], list[Reply]],
        prepare: Callable[[list[C]], Sent[R]],
        abandon: Callable[[R], None],
        *,
        timeout_s: float,
    ) -> None:
        self._run = run
        self._prepare = prepare
        self._abandon = abandon
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._queue: BatchQueue[_Waiter[C, R]] = BatchQueue(lambda waiter: waiter.left)
        self._leader: _Waiter[C, R] | None = None

    def send(self, claim: C, until_s: float | None = None) -> R:
        """The result of `claim`, by `until_s` or within the timeout.

        Raises what `run` raised for its batch, or for the one before.
        """
        waiter: _Waiter[C, R] = _Waiter(claim, until_s or time.monotonic() + self._timeout_s)
        try:
            with self._lock:
                leader = self._leader
                if leader is None:
                    # Then nobody else waits.
                    self._leader = waiter
                else:
                    waiter.wait_for_wake()
                    self._queue.add(waiter)
            if leader is None:
                self._lead(waiter.until_s, [waiter])
            else:
                self._wait(waiter, leader)
                if self._leader is waiter:
                    self._lead(waiter.until_s)
        except BaseException:
            self._leave(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        return waiter.result  # type: ignore[return-value]  # a thread that was woken without an error has one

    def _lead(self, until_s: float, batch: list[_Waiter[C, R]] | None = None) -> None:
        sent: Sent[R] | None = None
        try:
            if batch is None:
                with self._lock:
                    batch = self._queue.next()
            sent = self._prepare([waiter.claim for waiter in batch])
            replies = self._run(sent.calls, until_s - _RESERVE * self._timeout_s)
            sent.received(replies)
        except BaseException as error:
            self._give_up(batch or [], sent, error)
            if not isinstance(error, BackendUnavailable):
                raise
            return
        finally:
            self._pass_lead_on()
        # The next call may be under way by now.
        self._settle(batch, sent, replies)

    def _give_up(self, batch: list[_Waiter[C, R]], sent: Sent[R] | None, error: BaseException) -> None:
        if sent is not None:
            sent.fail(error)
        self._fail(batch, error)

    def _settle(self, batch: list[_Waiter[C, R]], sent: Sent[R], replies: list[Reply]) -> None:
        try:
            results = sent.results(replies)
        except BaseException as error:
            self._give_up(batch, sent, error)
            raise
        if len(batch) == 1 and batch[0].wake is None:
            # This thread is alone.
            batch[0].result = results[0]
            return
        with self._lock:
            for waiter, result in zip(batch, results, strict=True):
                if waiter.left:
                    self._abandon(result)
                waiter.result = result
                waiter.wake_up()

    def _fail(self, batch: list[_Waiter[C, R]], cause: BaseException) -> None:
        """Fail the queued claims with the batch: no claim waits for two calls without a reply.

        An exception that interrupted the leader says nothing about the next call, so the queue keeps its claims.
        """
        with self._lock:
            others = self._queue.clear() if isinstance(cause, BackendUnavailable) else ()
            for waiter in (*batch, *others):
                waiter.error = copied_error(cause)
                waiter.wake_up()

    def _pass_lead_on(self) -> None:
        with self._lock:
            self._leader = self._queue.first()
            if self._leader is not None:
                self._leader.wake_up()

    def _leave(self, waiter: _Waiter[C, R]) -> None:
        """The thread of `waiter` stops waiting, whatever becomes of its claim."""
        with self._lock:
            waiter.left = True
            if waiter.result is not None:
                self._abandon(waiter.result)
        if self._leader is waiter:
            self._pass_lead_on()

    def _wait(self, waiter: _Waiter[C, R], leader: _Waiter[C, R]) -> None:
        until_s = waiter.until_s
        # Every delay counts: this wait ends with the call before, which has a deadline of its own.
        deadline, was_late = Deadline(until_s, all_delays=True), False
        assert waiter.wake is not None
        while not _woken(waiter.wake, deadline.wait_s()):
            if not deadline.is_over():
                continue
            if was_late or not deadline.was_late:
                if self._leader is leader:
                    self._pass_lead_on()
                raise not_sent_error("late: the previous call has not ended")
            # In a process that is late, the leader is probably late too, and not lost. Wait for one more call.
            was_late = deadline.begin(time.monotonic() + self._timeout_s)
        deadline.note()
        waiter.until_s += deadline.until_s - until_s
        if self._is_too_late(waiter):
            raise not_sent_error("late: no time was left to send this claim")

    def _is_too_late(self, waiter: _Waiter[C, R]) -> bool:
        """Whether `waiter` must lead without time for a call: its call would fail claims that still have time."""
        return self._leader is waiter and time.monotonic() >= waiter.until_s
