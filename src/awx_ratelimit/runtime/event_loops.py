"""Event loops: checks for asyncio, and threads for blocking functions. No event loop is imported before its use."""

import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_Result = TypeVar("_Result")
#: In a thread of a ThreadPool: the event loop whose task waits for it.
_WAITING_LOOP: ContextVar[Any] = ContextVar("awx_ratelimit.loop")
#: Much longer than any limiter takes. It only bounds the wait for a loop that has been closed.
_LOOP_TIMEOUT_S = 10.0


@runtime_checkable
class NeedsAsyncio(Protocol):
    """If `needs_asyncio` is True, this object works only in an asyncio event loop."""

    needs_asyncio: bool


def runs_asyncio() -> bool:
    """Whether the calling code runs in an asyncio event loop."""
    asyncio = sys.modules.get("asyncio")
    # `asyncio.get_running_loop` raises an exception instead, which is slower.
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001


def find_asyncio_error(*parts: Any) -> str:
    """The error message for the first of `parts`, or of the backends that it wraps, that needs asyncio; else empty."""
    for part in parts:
        inner = part
        while inner is not None:
            if isinstance(inner, NeedsAsyncio) and inner.needs_asyncio:
                return needs_asyncio_error(type(inner).__name__)
            inner = getattr(inner, "backend", None)
    return ""


def needs_asyncio_error(part: str) -> str:
    """The error message for a `part` that needs asyncio and runs without it."""
    trio = sys.modules.get("trio")
    running = "trio" if trio is not None and trio.lowlevel.in_trio_run() else "no event loop of asyncio"
    return (
        f"{part} needs asyncio, and this app runs on {running}: serve it on asyncio, "
        "or use a memory:// or host:// backend and StaticKeys"
    )


async def in_thread(function: Callable[[], _Result]) -> _Result:
    """Return the result of `function`, which runs in a thread on asyncio, and at once on other event loops."""
    if not runs_asyncio():
        return function()
    import asyncio  # here: a program on trio may not need it

    return await asyncio.to_thread(function)


class ThreadPool:
    """Runs blocking functions for event loops, at most `max_threads` at a time. Other calls wait for a free thread.

    A thread cannot be stopped: if a task is cancelled, its function keeps the thread until it returns. A function that
    has not started by then never starts. Use one pool for each kind of work, so that one kind cannot starve another.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._executor: Any = None
        register_after_fork(self._drop_executor)

    async def run(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Call `function` in a thread, with the context variables of this task, and return its result."""
        # On first use: synchronous apps need neither.
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        renew_if_forked()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._max_threads, thread_name_prefix="awx-blocking")
        try:
            loop, context = asyncio.get_running_loop(), copy_context()
        except RuntimeError:
            raise RuntimeError(needs_asyncio_error("StoredKeys")) from None
        context.run(_WAITING_LOOP.set, loop)
        result: _Result = await loop.run_in_executor(self._executor, partial(context.run, function, *args))
        return result

    def _drop_executor(self) -> None:
        """In a child process the threads do not exist."""
        self._executor = None


def call_in_event_loop(function: Callable[..., Coroutine[Any, Any, _Result]], *args: Any) -> _Result:
    """From a function that a ThreadPool runs, call a coroutine function in the event loop and return its result.

    Raises BackendUnavailable if the loop gives no result in 10 seconds, and RuntimeError in any other thread.
    """
    import asyncio

    loop = _WAITING_LOOP.get(None)
    if loop is None:
        raise RuntimeError("this thread has no event loop: an AsyncLimiter needs an app that runs in one")
    try:
        return asyncio.run_coroutine_threadsafe(function(*args), loop).result(_LOOP_TIMEOUT_S)
    except TimeoutError as error:
        raise BackendUnavailable("the event loop did not respond") from error
