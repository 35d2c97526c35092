"""`TaskWaiter`: a future whose task goes on at once, instead of in the next iteration of the event loop.

asyncio lets a task go on in the iteration after its future has a result. A call that is alone would pay for that
iteration, and a batch for a handle per caller. asyncio accepts any object with `_asyncio_future_blocking` as a future
(see `asyncio.isfuture`), so this one has only what a Task needs.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar

C = TypeVar("C")
R = TypeVar("R")


class TaskWaiter(Generic[C, R]):
    """What one task of `loop` waits for: the result of `call`. `abandon` gets a result that the task does not take."""

    #: Whether it has a result or an error, or its task has gone.
    is_done = False
    _asyncio_future_blocking = True
    _result: Any = None
    _error: BaseException | None = None
    _wake: Callable[[Any], Any] | None = None
    _context: Context
    #: A Task calls it before it goes on, and only looks at what it raises.
    result = bool

    def __init__(self, call: C, loop: asyncio.AbstractEventLoop, abandon: Callable[[R], Any]) -> None:
        self.call = call
        self._loop = loop
        self._abandon = abandon

    def __await__(self) -> Generator[Any, None, R]:
        try:
            if not self.is_done:
                yield self
        except BaseException:
            self._leave()
            raise
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]

    def _leave(self) -> None:
        """The task stops waiting by an exception. The result may have arrived just before."""
        result, self._result = self._result, None
        self.is_done = True
        if result is not None:
            self._abandon(result)

    def add_done_callback(self, wake: Callable[[Any], Any], *, context: Context) -> None:
        """For a Task: call `wake` when there is a result."""
        self._wake, self._context = wake, context

    def cancel(self, msg: Any = None) -> bool:
        """For a Task that is cancelled. Whether it still waits."""
        if self.is_done:
            return False
        self._end(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True

    def set_result(self, result: R) -> None:
        """The task goes on with `result` before this returns. Only for callbacks of the loop: not while a task runs.

        Raises KeyboardInterrupt and SystemExit if the task does.
        """
        self.is_done, self._result = True, result
        if self._wake is not None:
            try:
                self._context.run(self._wake, self)
            except RuntimeError:
                # Inside of a nested event loop, it is not the turn of this task.
                self._loop.call_soon(self._wake, self, context=self._context)

    def set_result_later(self, result: R) -> None:
        """The task goes on with `result` in the next iteration of the loop."""
        self._result = result
        self._end(None)

    def set_error(self, error: BaseException) -> None:
        """The task goes on with `error` in the next iteration of the loop."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self.is_done, self._error = True, error
        if self._wake is not None:
            self._loop.call_soon(self._wake, self, context=self._context)
