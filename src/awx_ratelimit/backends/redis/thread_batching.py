"""Group commit for threads: who comes first sends for all, in its own thread.

While it waits for the answer, others join the next batch, and the first of them leads that one. Every way out of a
wait (an answer, an error, an exception that a signal handler raised) hands the lead on; and should a leader be lost all
the same, whoever's time is up takes the lead away from it.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from awx_ratelimit.backends.redis.batch import BatchQueue, delayed, unavailable
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.deadlines import Deadline

#: What is left of its time when a call ends, so that who waits for it hears of that in time.
_TO_TELL = 0.02

A = TypeVar("A")
C = TypeVar("C")


class _Waiting(Generic[C, A]):
    """A thread, its claim and its time. It is woken to lead, or with its answer or error: under the commit's lock."""

    __slots__ = ("answer", "claim", "error", "left", "until_s", "wake")

    def __init__(self, claim: C, until_s: float) -> None:
        self.claim = claim
        self.until_s = until_s
        self.answer: A | None = None
        self.error: BackendUnavailable | None = None
        self.left = False
        self.wake = threading.Lock()
        self.wake.acquire()

    def wake_up(self) -> None:
        # Who was told to lead, and has not got going, may be told again, or that the call before has failed.
        if self.wake.locked():
            self.wake.release()


def _woken(wake: threading.Lock, wait_s: float) -> bool:
    """Whether `wake` was released within so long."""
    if wait_s:
        return wake.acquire(timeout=wait_s)
    # At the end the thread that reads the answer gets a turn: among greenlets it has none while another one looks.
    time.sleep(0)
    return wake.acquire(blocking=False)


def _gone(waiting: _Waiting[C, A]) -> bool:
    return waiting.left


class ThreadBatching(Generic[C, A]):
    """Sends the claims of many threads in few calls of `run`, which answers all of a batch or raises.

    No thread waits for longer than `timeout_s` and the delays of its own process, the call before its own included:
    `run` gets the end of its time in seconds of the monotonic clock. `abandon` is told of each answer that nobody waits
    for any more, `unanswered` of each claim that was sent and got no answer.
    """

    def __init__(
        self,
        run: Callable[[list[C], float], list[A]],
        abandon: Callable[[A], None],
        unanswered: Callable[[C], None],
        *,
        timeout_s: float,
    ) -> None:
        self._run = run
        self._abandon = abandon
        self._unanswered = unanswered
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._batches: BatchQueue[_Waiting[C, A]] = BatchQueue(_gone)
        self._leader: _Waiting[C, A] | None = None

    def ask(self, claim: C, until_s: float | None = None) -> A:
        """The answer to `claim`, by `until_s` or in its time. Raises what `run` raised for its batch, or one before."""
        waiting: _Waiting[C, A] = _Waiting(claim, until_s or time.monotonic() + self._timeout_s)
        try:
            with self._lock:
                self._batches.add(waiting)
                leader = self._leader = self._leader or waiting
            if leader is not waiting:
                self._wait(waiting, leader)
            if self._leader is waiting:
                self._lead(waiting.until_s)
        except BaseException:
            self._leave(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error
        return waiting.answer  # type: ignore[return-value]  # whoever was woken without an error has one

    def _lead(self, until_s: float) -> None:
        with self._lock:
            batch = self._batches.next()
        try:
            answers = self._run([waiting.claim for waiting in batch], until_s - _TO_TELL * self._timeout_s)
        except BaseException as error:
            self._fail(batch, error)
            if not isinstance(error, BackendUnavailable):
                raise
        else:
            self._settle(batch, answers)
        finally:
            self._hand_on()

    def _settle(self, batch: list[_Waiting[C, A]], answers: list[A]) -> None:
        with self._lock:
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.left:
                    self._abandon(answer)
                waiting.answer = answer
                waiting.wake_up()

    def _fail(self, batch: list[_Waiting[C, A]], cause: BaseException) -> None:
        """Those who were not sent fail with those who were: nobody waits for two calls that have no answer.

        An exception that interrupted the leader says nothing about the next call: it is theirs.
        """
        with self._lock:
            for waiting in batch:
                self._unanswered(waiting.claim)
            others = self._batches.all() if isinstance(cause, BackendUnavailable) else ()
            for waiting in (*batch, *others):
                waiting.error = unavailable(cause)
                waiting.wake_up()

    def _hand_on(self) -> None:
        with self._lock:
            self._leader = self._batches.first()
            if self._leader is not None:
                self._leader.wake_up()

    def _leave(self, waiting: _Waiting[C, A]) -> None:
        """Its thread waits no longer, whatever comes of its claim."""
        with self._lock:
            waiting.left = True
            if waiting.answer is not None:
                self._abandon(waiting.answer)
        if self._leader is waiting:
            self._hand_on()

    def _wait(self, waiting: _Waiting[C, A], leader: _Waiting[C, A]) -> None:
        until_s = waiting.until_s
        # Every delay counts: this wait ends with the call before, which has a deadline.
        deadline, was_late = Deadline(until_s, all_delays=True), False
        while not _woken(waiting.wake, deadline.wait_s()):
            if not deadline.is_over():
                continue
            if was_late or not deadline.was_late:
                if self._leader is leader:
                    self._hand_on()
                raise delayed("the call before this one has not ended")
            # In a process that is late its leader is late, and probably not lost: it has the time of a call more.
            was_late = deadline.begin(time.monotonic() + self._timeout_s)
        deadline.note()
        waiting.until_s += deadline.until_s - until_s
        if self._is_late(waiting):
            raise delayed("no time was left to send this claim")

    def _is_late(self, waiting: _Waiting[C, A]) -> bool:
        """Whether it is to lead, and has no time left for a call: its call would fail those who have."""
        return self._leader is waiting and time.monotonic() >= waiting.until_s
