"""Batches the claims of tasks: while one call is in flight, claims queue, and then they all go in one call.

See `thread_batching` for threads. A claim whose caller has gone before it was sent is dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

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
        self._waiting: list[W] = []

    def add(self, waiter: W) -> None:
        """Add `waiter` to the next batch."""
        self._waiting.append(waiter)

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self, max_claims: int = MAX_BATCH_CLAIMS) -> list[W]:
        """Remove and return the batch to send now; empty if there are no waiters."""
        batch: list[W] = []
        while self._waiting and not batch:
            first, self._waiting = self._waiting[:max_claims], self._waiting[max_claims:]
            batch = [waiter for waiter in first if not self._gone(waiter)]
        return batch

    def clear(self) -> list[W]:
        """Remove and return all waiters."""
        waiting, self._waiting = self._waiting, []
        return [waiter for waiter in waiting if not self._gone(waiter)]

    def first(self) -> W | None:
        """The first waiter of the next batch."""
        while self._waiting and self._gone(self._waiting[0]):
            self._waiting.pop(0)
        return self._waiting[0] if self._waiting else None


#: A claim and the future of its reply. A cancelled caller leaves its future done.
_Waiter: TypeAlias = tuple[C, asyncio.Future[R]]


def _first_batch_size(waiting: int) -> int:
    """A large first batch is split in half, so that the server works while the other tasks go on."""
    return min(MAX_BATCH_CLAIMS, waiting if waiting < MIN_SPLIT_CLAIMS else (waiting + 1) // 2)


class TaskBatching(Generic[C, R]):
    """Sends the claims of many tasks in few calls of `run`, which returns all results of a batch or raises.

    It belongs to the event loop in which it is made. A separate task sends, so that no caller's cancellation can come
    between a call and its reply. `abandon` gets each result whose caller has gone. `unanswered` gets each claim that
    was sent and got no result.
    """

    def __init__(
        self,
        run: Callable[[list[C]], Awaitable[list[R]]],
        abandon: Callable[[R], None],
        unanswered: Callable[[C], None],
    ) -> None:
        self._run = run
        self._abandon = abandon
        self._unanswered = unanswered
        self._loop = asyncio.get_running_loop()
        self._queue: BatchQueue[_Waiter[C, R]] = BatchQueue(lambda waiter: waiter[1].done())
        self._sender: asyncio.Task[None] | None = None

    async def send(self, claim: C) -> R:
        """The result of `claim`. Raises what `run` raised for its batch, or for the one before."""
        result: asyncio.Future[R] = self._loop.create_future()
        self._queue.add((claim, result))
        # A sender that was cancelled before it started, or that an eager loop has finished, did not clear the field.
        if self._sender is None or self._sender.done():
            self._sender = self._loop.create_task(self._send_all())
        try:
            return await result
        except asyncio.CancelledError:
            if result.done() and not result.cancelled() and result.exception() is None:
                # The result arrived, and then the cancellation, before the caller went on.
                self._abandon(result.result())
            raise

    async def _send_all(self) -> None:
        batch = self._queue.next(_first_batch_size(len(self._queue)))
        try:
            while batch:
                try:
                    results = await self._run([claim for claim, _ in batch])
                except BaseException as error:
                    self._fail(batch, error)
                    if not isinstance(error, BackendUnavailable):
                        # The loop is closing, or `run` has a bug.
                        raise
                else:
                    self._settle(batch, results)
                # Send the next batch before the tasks of this one go on.
                batch = self._queue.next()
        finally:
            self._sender = None

    def _settle(self, batch: list[_Waiter[C, R]], results: list[R]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                self._abandon(result)
            else:
                future.set_result(result)

    def _fail(self, batch: list[_Waiter[C, R]], cause: BaseException) -> None:
        """Fail the queued claims with the batch: no claim waits for two calls without a reply."""
        for claim, _ in batch:
            self._unanswered(claim)
        for _, future in (*batch, *self._queue.clear()):
            if not future.done():
                future.set_exception(copied_error(cause))
