"""Locks on bytes of a file, which the kernel releases when a process dies, and how long a decision waits for them.

The locks belong to the open file description (Linux 3.15, fcntl(2)). A file that is opened twice therefore excludes
itself, even within one process, and closing another descriptor releases nothing. A locked byte need not exist.

The calls go through ctypes because Python's own `fcntl` releases the interpreter lock. The thread may then wait 5 ms
per busy thread to get the interpreter back, while it holds the file lock. With three busy threads in each of two
processes the 95th percentile of a decision was 20 ms with Python's call and 0.1 ms with ctypes. No call here blocks.

One deadline covers everything that a decision waits for: threads, processes and room in the file. It is set when the
decision first waits, and belongs to the thread, task or greenlet that runs the decision.
"""

import asyncio
import ctypes
import fcntl
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from struct import Struct
from typing import Final

#: The longest time that one decision blocks an event loop, all its waits included.
MAX_WAIT_MS: Final = 50
#: How long a decision in an event loop waits for processes and threads. The rest is for its own work.
WAIT_MS: Final = 40
#: How long a decision in a thread waits for other processes. One on a busy machine may not run for 100 ms and more
#: while it holds a lock: it waits for a processor, and its thread for the interpreter, in turns of 5 ms.
THREAD_WAIT_MS: Final = 800
#: How long a decision in a thread waits in all, so that those behind one that waits for a process can go on after it.
_THREAD_TOTAL_WAIT_MS: Final = 1_000
#: How long to sleep between two attempts.
POLL_S: Final = 0.000_05
#: The same for a wait that is longer than `WAIT_MS`. The holder needs the processor.
_LONG_POLL_S: Final = 0.001
_TRIES_PER_POLL = 100
#: A lock request as the kernel takes it: `struct flock` of 64-bit Linux.
_REQUEST = Struct("@hhqqi4x")
_ALIVE_AT = 1 << 61
_LOCKS_AT = 1 << 62
#: The size of a process number, in bits.
PROCESS_NUMBER_BITS: Final = 60

_fcntl = ctypes.PyDLL(None)["fcntl"]
_deadline_s: ContextVar[float | None] = ContextVar("awx_ratelimit_host_deadline_s", default=None)


def _request(kind: int, at: int) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(_REQUEST.pack(kind, 0, at, 1, 0), _REQUEST.size)


class ByteLock:
    """An exclusive lock on one byte, identified by `number`.

    `try_lock()` tries once and returns 0 if it took the lock. `unlock()` may be called twice. Both are C functions, so
    no signal handler runs between the call and its effect.
    """

    __slots__ = ("_try_and_raise", "try_lock", "unlock")

    def __init__(self, fd: int, number: int, *, base: int = _LOCKS_AT) -> None:
        at = base + number
        self.try_lock: Callable[[], int] = partial(_fcntl, fd, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK, at))
        self.unlock: Callable[[], int] = partial(_fcntl, fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, at))
        self._try_and_raise = partial(fcntl.fcntl, fd, fcntl.F_OFD_SETLK, _REQUEST.pack(fcntl.F_WRLCK, 0, at, 1, 0))

    def wait(self, wait_ms: float) -> bool:
        """Try for up to `wait_ms`; whether the lock was taken. Raises OSError if the file system has no locks."""
        return self._poll(wait_ms, _TRIES_PER_POLL, POLL_S)

    def wait_longer(self, wait_ms: float) -> bool:
        """`wait`, but it leaves the processor to others. For a wait after a wait."""
        return self._poll(wait_ms, 1, _LONG_POLL_S)

    def _poll(self, wait_ms: float, tries: int, poll_s: float) -> bool:
        try_lock, until_s = self.try_lock, time.monotonic() + wait_ms / 1000
        while True:
            for _ in range(tries):
                if not try_lock():
                    return True
                if time.monotonic() >= until_s:
                    break
                # The holder needs microseconds, and may be waiting for this very processor.
                os.sched_yield()
            # The call through ctypes reports no reason for a failure; Python's call raises it.
            with suppress(BlockingIOError, PermissionError):
                self._try_and_raise()
                return True
            if time.monotonic() >= until_s:
                return False
            time.sleep(poll_s)


def alive_lock(fd: int, process_number: int) -> ByteLock:
    """The lock that the process with this number holds for as long as it lives."""
    return ByteLock(fd, process_number, base=_ALIVE_AT)


def is_dead(fd: int, process_number: int) -> bool:
    """Whether no other open file holds the alive lock of this process."""
    if process_number >> PROCESS_NUMBER_BITS:
        return True
    request = _request(fcntl.F_WRLCK, _ALIVE_AT + process_number)
    return _fcntl(fd, fcntl.F_OFD_GETLK, request) == 0 and request.raw[:2] == _UNLOCKED


_UNLOCKED = _REQUEST.pack(fcntl.F_UNLCK, 0, 0, 0, 0)[:2]


def reset_deadline() -> None:
    """Start a decision: it has not waited for anything yet."""
    if _deadline_s.get() is not None:
        _deadline_s.set(None)


def may_wait_for_thread(loop_wait_ms: float = WAIT_MS) -> bool:
    """Whether this decision may wait another moment for a thread; in an event loop for `loop_wait_ms` at most."""
    now_s, deadline_s = time.monotonic(), _deadline_s.get()
    if deadline_s is None:
        _deadline_s.set(now_s + (loop_wait_ms if in_event_loop() else _THREAD_TOTAL_WAIT_MS) / 1000)
        return True
    return now_s < deadline_s


def process_wait_limit_ms() -> int:
    """How long a decision here may wait for another process if it has not waited yet. Greenlets share their thread."""
    return WAIT_MS if in_event_loop() or _in_greenlet() else THREAD_WAIT_MS


def process_wait_ms() -> float:
    """How long this decision may wait for another process, including everything that it still has to wait for."""
    now_s, deadline_s = time.monotonic(), _deadline_s.get()
    limit_s = process_wait_limit_ms() / 1000
    wait_s = limit_s if deadline_s is None else min(limit_s, max(0.0, deadline_s - now_s))
    _deadline_s.set(now_s + wait_s)
    return wait_s * 1000


def remaining_ms(until_s: float) -> int:
    """Whole milliseconds until the monotonic time `until_s`; 0 if it has passed."""
    return max(0, round((until_s - time.monotonic()) * 1000))


def in_event_loop() -> bool:
    """Whether the caller runs in an event loop of asyncio, or of trio (which sniffio detects)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        sniffio = sys.modules.get("sniffio")
        return sniffio is not None and sniffio.thread_local.name is not None
    return True


def _in_greenlet() -> bool:
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and greenlet.getcurrent().parent is not None
