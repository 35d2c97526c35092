"""Group commit for threads: who comes first sends for all, in its own thread.

While it waits for the answer, others join the next batch, and the first of them leads that one. Every way out of a
wait (an answer, an error, an exception that a signal handler raised) hands the lead on; and should a leader be lost all
the same, who has waited for longer than a call can last takes the lead away from it.
"""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from awx_ratelimit.backends._coalesce_batch import Batches, unavailable
from awx_ratelimit.errors import BackendUnavailable

A = TypeVar("A")
C = TypeVar("C")


class _Waiting(Generic[C, A]):
    """A thread and its claim. It is woken to lead, or with its answer or error: under the lock of its commit."""

    __slots__ = ("answer", "claim", "error", "left", "wake")

    def __init__(self, claim: C) -> None:
        self.claim = claim
        self.answer: A | None = None
        self.error: BackendUnavailable | None = None
        self.left = False
        self.wake = Lock()
        self.wake.acquire()

    def wake_up(self) -> None:
        # Who was told to lead, and has not got going, may be told again, or that the call before has failed.
        if self.wake.locked():
            self.wake.release()


def _gone(waiting: _Waiting[C, A]) -> bool:
    return waiting.left


class ThreadCommit(Generic[C, A]):
    """Sends the claims of many threads in few calls of `run`, which answers all of a batch or raises.

    `run` lasts less than `patience_s`. `abandon` is told of each answer that nobody waits for any more, `unanswered` of
    each claim that was sent and got no answer.
    """

    def __init__(
        self,
        run: Callable[[list[C]], list[A]],
        abandon: Callable[[A], None],
        unanswered: Callable[[C], None],
        *,
        patience_s: float,
    ) -> None:
        self._run = run
        self._abandon = abandon
        self._unanswered = unanswered
        self._patience_s = patience_s
        self._lock = Lock()
        self._batches: Batches[_Waiting[C, A]] = Batches(_gone)
        self._leader: _Waiting[C, A] | None = None

    def ask(self, claim: C) -> A:
        """The answer to `claim`. Raises what `run` raised for its batch, or for the one before."""
        waiting: _Waiting[C, A] = _Waiting(claim)
        try:
            with self._lock:
                self._batches.add(waiting)
                leader = self._leader = self._leader or waiting
            if leader is not waiting:
                self._wait(waiting, leader)
            if self._leader is waiting:
                self._lead()
        except BaseException:
            self._leave(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error
        return waiting.answer  # type: ignore[return-value]  # whoever was woken without an error has one

    def _lead(self) -> None:
        with self._lock:
            batch = self._batches.next()
        try:
            answers = self._run([waiting.claim for waiting in batch])
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
        """Those who were not sent fail with those who were: nobody waits for two calls that have no answer."""
        with self._lock:
            for waiting in batch:
                self._unanswered(waiting.claim)
            for waiting in (*batch, *self._batches.all()):
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
        if waiting.wake.acquire(timeout=self._patience_s):
            return
        if self._leader is leader:
            self._hand_on()
        raise BackendUnavailable("the call before this one has not ended")
