"""How long one decision on a host's file waits: for threads, for processes and for room, all together.

The deadline is set when a decision first waits, and belongs to whatever runs it: a thread, a task or a greenlet.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Final, TypeVar

from awx_ratelimit.errors import BackendUnavailable

#: How long one decision holds an event loop at most, with all that it waits for.
LONGEST_WAIT_MS: Final = 50
#: How long one decision waits for other processes, and in an event loop for threads too. The rest is for its own work.
WAIT_MS: Final = 40
#: How long a decision outside of event loops waits for other threads of its process: busy ones take turns of 5 ms.
_THREADS_WAIT_MS: Final = 500
_Answer = TypeVar("_Answer")
_until_s: ContextVar[float | None] = ContextVar("awx_ratelimit_host_until_s", default=None)


def begin_to_wait() -> None:
    """A decision begins: it has not waited for anybody yet."""
    if _until_s.get() is not None:
        _until_s.set(None)


def may_wait_for_thread() -> bool:
    """Whether this decision may wait for another thread for a moment more."""
    now_s, until_s = time.monotonic(), _until_s.get()
    if until_s is None:
        _until_s.set(now_s + (WAIT_MS if in_event_loop() else _THREADS_WAIT_MS) / 1000)
        return True
    return now_s < until_s


def process_wait_ms() -> float:
    """How long this decision may wait for another process, with all that it still has to wait for."""
    now_s, until_s = time.monotonic(), _until_s.get()
    wait_s = WAIT_MS / 1000 if until_s is None else min(WAIT_MS / 1000, max(0.0, until_s - now_s))
    _until_s.set(now_s + wait_s)
    return wait_s * 1000


def run_alone(lock: threading.Lock, wait_ms: float, act: Callable[[int], _Answer]) -> _Answer:
    """What `act` answers, alone behind `lock`; it is given what is left of `wait_ms`. Raises BackendUnavailable."""
    until_s = time.monotonic() + wait_ms / 1000
    # An iterator leaves no place for a signal handler to raise between the lock and the `try`.
    for _ in iter(partial(lock.acquire, timeout=wait_ms / 1000), False):
        try:
            return act(max(0, round((until_s - time.monotonic()) * 1000)))
        finally:
            lock.release()
    raise BackendUnavailable(f"another thread has been opening the limits file for {wait_ms:.0f} ms")


def in_event_loop() -> bool:
    """Whether what runs here holds up an event loop: one of asyncio, or of trio, which brings sniffio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        sniffio = sys.modules.get("sniffio")
        return sniffio is not None and sniffio.thread_local.name is not None
    return True
