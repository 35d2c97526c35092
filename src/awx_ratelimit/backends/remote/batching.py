"""Batches the claims of tasks: while one call is in flight, claims queue, and then they all go in one call.

See `thread_batching` for threads. A claim whose caller has gone before it was sent is dropped.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import filterfalse
from operator import attrgetter
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

from awx_ratelimit.backends.remote.replies import Call, Reply, copied_error
from awx_ratelimit.backends.remote.sent import Sent
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.task_waiter import TaskWaiter

#: The most claims of one call, so that one call never keeps the server busy for long.
MAX_BATCH_CLAIMS = 128
#: A first batch of fewer claims is not split: two halves would cost more in calls than they save in waiting.
MIN_SPLIT_CLAIMS = 64
#: Of fewer claims, it gains nothing that some wait for the second call.
MIN_BALANCED_CLAIMS = 8

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


#: A caller that was cancelled leaves it done.
_Waiter: TypeAlias = TaskWaiter[C, R]


def first_batch_size(waiting: int) -> int:
    """How many of the `waiting` claims to send while no call is in flight.

    Many claims travel in two halves, so that the server works on one while the tasks of the other go on.
    """
    return min(MAX_BATCH_CLAIMS, waiting if waiting < MIN_SPLIT_CLAIMS else (waiting + 1) // 2)


def next_batch_size(waiting: int, answered: int, before: int) -> int:
    """How many of the `waiting` claims to send after a call with `answered` claims, and one with as many as `before`.

    If no more wait than were answered before, the same tasks may claim again and again. They would keep whatever sizes
    their first calls had, such as 1 and 99, so they get two calls of one size.
    """
    claims = waiting + answered
    claims_again = before >= waiting and claims >= MIN_BALANCED_CLAIMS
    return min(MAX_BATCH_CLAIMS, (claims + 1) // 2 if claims_again else waiting)


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
        self._queue: BatchQueue[_Waiter[C, R]] = BatchQueue(attrgetter("is_done"))
        #: Whether a batch is in flight, or about to be sent.
        self._is_busy = False
        #: Whether the last batch had one claim, and none waited behind it.
        self._is_alone = False
        #: How many claims the last call had that was answered.
        self._claims_before = 0

    def send(self, claim: C) -> TaskWaiter[C, R]:
        """Await the result of `claim`. Raises what failed its batch, or the one before."""
        waiter: _Waiter[C, R] = TaskWaiter(claim, self._loop, self._abandon)
        if self._is_busy:
            self._queue.waiting.append(waiter)
        elif self._is_alone:
            self._is_busy = True
            self._send([waiter])
        else:
            self._is_busy = True
            self._queue.waiting.append(waiter)
            # The other tasks that run in this iteration of the loop join the batch.
            self._loop.call_soon(self._send_first)
        return waiter

    def _send_first(self) -> None:
        self._send_next(first_batch_size(len(self._queue.waiting)))

    def _send_next(self, max_claims: int = MAX_BATCH_CLAIMS) -> None:
        batch = self._queue.next(max_claims)
        self._is_busy = bool(batch)
        if batch:
            self._send(batch)

    def _send(self, batch: list[_Waiter[C, R]]) -> None:
        sent: Sent[R] | None = None
        try:
            sent = self._prepare([waiter.call for waiter in batch])
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
                    self._send_next(next_batch_size(len(self._queue.waiting), len(batch), self._claims_before))
                self._claims_before = len(batch)
            finally:
                self._settle(batch, sent, outcome)

    def _settle(self, batch: list[_Waiter[C, R]], sent: Sent[R], replies: list[Reply]) -> None:
        try:
            results = sent.results(replies)
        except BaseException as error:
            self._fail(batch, sent, error)
            raise
        settling = zip(batch, results, strict=True)
        try:
            for waiter, result in settling:
                if waiter.is_done:
                    self._abandon(result)
                else:
                    waiter.set_result(result)
        except BaseException as error:
            for waiter, result in settling:
                if waiter.is_done:
                    self._abandon(result)
                else:
                    waiter.set_result_later(result)
            # A task ends the program. Raised here, its exception would end the connection instead.
            self._loop.call_soon(_raise, error)

    def _fail(self, batch: list[_Waiter[C, R]], sent: Sent[R] | None, cause: BaseException) -> None:
        """Fail the queued claims with the batch: no claim waits for two calls without a reply."""
        if sent is not None:
            sent.fail(cause)
        for waiter in (*batch, *self._queue.clear()):
            if not waiter.is_done:
                waiter.set_error(copied_error(cause))


def _raise(error: BaseException) -> NoReturn:
    raise error
