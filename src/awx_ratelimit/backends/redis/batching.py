"""Batches the claims of tasks: while one call is in flight, claims queue, and then they all go in one call.

See `thread_batching` for threads. A claim whose caller has gone before it was sent is dropped.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import filterfalse
from typing import Any, Generic, TypeAlias, TypeVar

from awx_ratelimit.backends.redis.connection import Reply
from awx_ratelimit.backends.redis.scripts import Call
from awx_ratelimit.backends.redis.sent import Sent
from awx_ratelimit.backends.redis.server import copied_error
from awx_ratelimit.errors import BackendUnavailable

#: The most claims of one call, so that one call never keeps the server busy for long.
MAX_BATCH_CLAIMS = 128
#: A batch of fewer claims is not split: two halves would cost more in calls than they save in waiting.
MIN_SPLIT_CLAIMS = 64

C = TypeVar("C")
R = TypeVar("R")
W = TypeVar("W")


class BatchQueue(Generic[W]):
    """The waiters that were not sent yet, in order. Used by one thread at a time.

    `gone` says whether a waiter has given up.
    """

    def __init__(self, gone: Callable[[W], bool]) -> None:
        self._gone = gone
        self.waiting: list[W] = []

    def add(self, waiter: W) -> None:
        """Add `waiter` to the next batch."""
        self.waiting.append(waiter)

    def next(self, max_claims: int = MAX_BATCH_CLAIMS) -> list[W]:
        """Remove and return the batch to send now; empty if there are no waiters."""
        batch: list[W] = []
        while self.waiting and not batch:
            first, self.waiting = self.waiting[:max_claims], self.waiting[max_claims:]
            batch = [*filterfalse(self._gone, first)]
        return batch

    def clear(self) -> list[W]:
        """Remove and return all waiters."""
        waiting, self.waiting = self.waiting, []
        return [*filterfalse(self._gone, waiting)]

    def first(self) -> W | None:
        """The first waiter of the next batch."""
        while self.waiting and self._gone(self.waiting[0]):
            self.waiting.pop(0)
        return self.waiting[0] if self.waiting else None


#: A claim and the future of its result. A cancelled caller leaves its future done.
_Waiter: TypeAlias = tuple[C, asyncio.Future[R]]


def _first_batch_size(waiting: int) -> int:
    """A large first batch is split in half, so that the server works while the other tasks go on."""
    return min(MAX_BATCH_CLAIMS, waiting if waiting < MIN_SPLIT_CLAIMS else (waiting + 1) // 2)


class TaskBatching(Generic[C, R]):
    """Sends the claims of many tasks in few calls.

    It belongs to the event loop in which it is made. `start` gets the calls of a batch, and calls its second argument
    once with their replies or with an error: no task waits there, so no cancellation comes between a call and its
    reply. `prepare` makes the calls. `abandon` gets each result whose caller has gone.
    """

    def __init__(
        self,
        start: Callable[[Sequence[Call], Callable[[Any], None]], None],
        prepare: Callable[[list[C]], Sent[R]],
        abandon: Callable[[R], None],
    ) -> None:
        self._start = start
        self._prepare = prepare
        self._abandon = abandon
        self._loop = asyncio.get_running_loop()
        self._queue: BatchQueue[_Waiter[C, R]] = BatchQueue(lambda waiter: waiter[1].done())
        #: Whether a batch is in flight, or about to be sent.
        self._is_busy = False
        #: Whether the last batch had one claim, and none waited behind it.
        self._is_alone = False

    async def send(self, claim: C) -> R:
        """The result of `claim`. Raises what failed its batch, or the one before."""
        result: asyncio.Future[R] = self._loop.create_future()
        self._queue.add((claim, result))
        if not self._is_busy:
            self._is_busy = True
            if self._is_alone:
                self._send_next(1)
            else:
                # The other tasks that run in this iteration of the loop join the batch.
                self._loop.call_soon(self._send_first)
        try:
            return await result
        except asyncio.CancelledError:
            if result.done() and not result.cancelled() and result.exception() is None:
                # The result arrived, and then the cancellation, before the caller went on.
                self._abandon(result.result())
            raise

    def _send_first(self) -> None:
        self._send_next(_first_batch_size(len(self._queue.waiting)))

    def _send_next(self, max_claims: int = MAX_BATCH_CLAIMS) -> None:
        batch = self._queue.next(max_claims)
        self._is_busy = bool(batch)
        if not batch:
            return
        sent: Sent[R] | None = None
        try:
            sent = self._prepare([claim for claim, _ in batch])
            self._start(sent.calls, partial(self._on_end, batch, sent))
        except BaseException as error:
            self._is_busy = False
            self._fail(batch, sent, error)
            if not isinstance(error, BackendUnavailable):
                raise

    def _on_end(self, batch: list[_Waiter[C, R]], sent: Sent[R], outcome: Any) -> None:
        """The batch has its replies, or an error instead."""
        if isinstance(outcome, BaseException):
            self._fail(batch, sent, outcome)
            self._send_next()
            return
        try:
            sent.received(outcome)
        finally:
            self._is_alone = len(batch) == 1 and not self._queue.waiting
            try:
                # Before the replies are read and the tasks of this batch go on: the server works meanwhile.
                self._is_busy = False
                if self._queue.waiting:
                    self._send_next()
            finally:
                self._settle(batch, sent, outcome)

    def _settle(self, batch: list[_Waiter[C, R]], sent: Sent[R], replies: list[Reply]) -> None:
        try:
            results = sent.results(replies)
        except BaseException as error:
            self._fail(batch, sent, error)
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                self._abandon(result)
            else:
                future.set_result(result)

    def _fail(self, batch: list[_Waiter[C, R]], sent: Sent[R] | None, cause: BaseException) -> None:
        """Fail the queued claims with the batch: no claim waits for two calls without a reply."""
        if sent is not None:
            sent.fail(cause)
        for _, future in (*batch, *self._queue.clear()):
            if not future.done():
                future.set_exception(copied_error(cause))
