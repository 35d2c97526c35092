"""Group commit for the tasks of one event loop.

One task sends for all of them, so that no caller's cancellation can come between a call and its answer: what was
granted to a caller who has gone is given back when the answer is there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

from awx_ratelimit.backends.redis.batch import MAX_BATCH_CLAIMS, BatchQueue, unavailable
from awx_ratelimit.errors import BackendUnavailable

#: Two halves of fewer cost more in calls than they save in waiting.
MANY = 64

A = TypeVar("A")
C = TypeVar("C")


#: A claim and the future of its answer, which is done early where its caller was cancelled.
_Waiting: TypeAlias = tuple[C, asyncio.Future[A]]


def _gone(waiting: _Waiting[C, A]) -> bool:
    return waiting[1].done()


def _first_half(waiting: int) -> int:
    """How many of those who wait to send first: of many a half, so that the server has work while the others go on."""
    return min(MAX_BATCH_CLAIMS, waiting if waiting < MANY else (waiting + 1) // 2)


class TaskBatching(Generic[C, A]):
    """Sends the claims of many tasks in few calls of `run`, which answers all of a batch or raises.

    It belongs to the event loop that runs when it is made. `abandon` is told of each answer that nobody waits for any
    more, and `unanswered` of each claim that was sent and got no answer.
    """

    def __init__(
        self,
        run: Callable[[list[C]], Awaitable[list[A]]],
        abandon: Callable[[A], None],
        unanswered: Callable[[C], None],
    ) -> None:
        self._run = run
        self._abandon = abandon
        self._unanswered = unanswered
        self._loop = asyncio.get_running_loop()
        self._batches: BatchQueue[_Waiting[C, A]] = BatchQueue(_gone)
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, claim: C) -> A:
        """The answer to `claim`. Raises what `run` raised for its batch, or for the one before."""
        answer: asyncio.Future[A] = self._loop.create_future()
        self._batches.add((claim, answer))
        # One that was cancelled before it began, or was done at once by an eager loop, has not said that it ended.
        if self._sending is None or self._sending.done():
            self._sending = self._loop.create_task(self._send())
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                # The answer came, and the cancellation before its caller went on.
                self._abandon(answer.result())
            raise

    async def _send(self) -> None:
        batch = self._batches.next(_first_half(len(self._batches)))
        try:
            while batch:
                try:
                    answers = await self._run([claim for claim, _ in batch])
                except BaseException as error:
                    self._fail(batch, error)
                    if not isinstance(error, BackendUnavailable):
                        # The loop is closing, or `run` is broken.
                        raise
                else:
                    self._settle(batch, answers)
                # They are sent before those who were answered go on.
                batch = self._batches.next()
        finally:
            self._sending = None

    def _settle(self, batch: list[_Waiting[C, A]], answers: list[A]) -> None:
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting.done():
                self._abandon(answer)
            else:
                waiting.set_result(answer)

    def _fail(self, batch: list[_Waiting[C, A]], cause: BaseException) -> None:
        """Those who were not sent fail with those who were: nobody waits for two calls that have no answer."""
        for claim, _ in batch:
            self._unanswered(claim)
        for _, waiting in (*batch, *self._batches.all()):
            if not waiting.done():
                waiting.set_exception(unavailable(cause))
