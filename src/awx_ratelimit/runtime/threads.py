"""What blocks, for event loops: a number of threads of its own, so that one kind of work cannot starve another.

A thread cannot be stopped. So its place is taken until it has ended, whoever waited for it and left; what has not
begun when its task is cancelled never does.
"""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.event_loops import wrong_loop
from awx_ratelimit.runtime.forks import renew_if_forked, renewed_after_fork

_Answer = TypeVar("_Answer")
#: The event loop whose task waits for this thread.
_LOOP: ContextVar[Any] = ContextVar("awx_ratelimit.loop")
#: No limiter takes as long; but a loop that has ended never answers.
_LOOP_TIMEOUT_S = 10.0


class Threads:
    """Runs functions that block, at most `most` at a time; whoever comes then waits its turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._executor: Any = None
        renewed_after_fork(self._renew)

    async def run(self, function: Callable[..., _Answer], *args: Any) -> _Answer:
        """What `function` answers or raises, in a thread that has the context of this task."""
        # On first use: whoever has no event loop needs neither.
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        renew_if_forked()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="awx-blocking")
        try:
            loop, context = asyncio.get_running_loop(), copy_context()
        except RuntimeError:
            raise RuntimeError(wrong_loop("StoredKeys")) from None
        context.run(_LOOP.set, loop)
        answer: _Answer = await loop.run_in_executor(self._executor, partial(context.run, function, *args))
        return answer

    def _renew(self) -> None:
        """In a child process: the threads are the parent's."""
        self._executor = None


def on_the_loop(function: Callable[..., Coroutine[Any, Any, _Answer]], *args: Any) -> _Answer:
    """What the coroutine function `function` answers on the event loop, for a function that `Threads` runs.

    Raises BackendUnavailable where the loop gives no answer, RuntimeError in any other thread.
    """
    import asyncio

    loop = _LOOP.get(None)
    if loop is None:
        raise RuntimeError("there is no event loop to ask: an AsyncLimiter needs an app that is served by one")
    try:
        return asyncio.run_coroutine_threadsafe(function(*args), loop).result(_LOOP_TIMEOUT_S)
    except TimeoutError as error:
        raise BackendUnavailable("the event loop gives no answer") from error
