"""The lock of a part of the file: one thread of one process at a time, and never in a file that was truncated.

Reading a mapping past the end of a truncated file raises SIGBUS, which kills the process. So code touches the mapped
memory only inside these locks, which compare the size of the file with the size of the mapping first.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from awx_ratelimit.backends.host.locks import (
    POLL_S,
    WAIT_MS,
    ByteLock,
    may_wait_for_thread,
    process_wait_limit_ms,
    process_wait_ms,
)
from awx_ratelimit.errors import BackendUnavailable

if TYPE_CHECKING:
    from awx_ratelimit.backends.host.mapped_file import MappedFile

#: How long to wait if a whole wait for another process was in vain: that process is probably stopped.
_STOPPED_HOLDER_WAIT_MS = 2
TRUNCATED: Final = "the file was truncated"
_NEVER = object()
_Result = TypeVar("_Result")


class Stale(Exception):
    """The file was closed, or the process dropped this ledger: look both up again."""


class _Busy(Exception):
    """Another thread or process holds the lock, and the caller does not wait."""


class SharedLock:
    """Excludes the other threads of this process and all other processes. `number` is the locked byte."""

    __slots__ = ("_attempts", "_closed", "_file", "_file_lock", "_waited_in_vain_ms", "number", "thread_lock")

    def __init__(self, file: "MappedFile", number: int) -> None:
        self.number = number
        self._file = file
        self._closed = False
        self._file_lock = ByteLock(file.fd, number)
        #: The longest wait for the process that holds the lock, if no wait has succeeded since.
        self._waited_in_vain_ms = 0.0
        self.thread_lock = threading.Lock()
        # Like the memory backend's shard: a signal handler that raises cannot run between an iterator and its loop.
        self._attempts: Iterator[object] = iter(partial(self.thread_lock.acquire, False), _NEVER)

    def run(self, act: Callable[..., _Result], *args: Any, waits: bool = True) -> _Result:
        """Call ``act(*args)`` under the lock. Raises Stale, and BackendUnavailable if the wait takes too long."""
        thread_lock, file_lock, file = self.thread_lock, self._file_lock, self._file
        for locked in self._attempts:
            if not locked:
                self._wait_for_thread(waits)
                continue
            try:
                if self._closed:
                    raise Stale
                try:
                    if file_lock.try_lock():
                        self._wait_for_process(waits)
                    self._waited_in_vain_ms = 0.0
                    if file.file_bytes() < file.mapped_bytes:
                        raise file.damaged(TRUNCATED)
                    return act(*args)
                finally:
                    file_lock.unlock()
            finally:
                thread_lock.release()
        raise AssertionError

    def try_run(self, act: Callable[..., Any], *args: Any) -> None:
        """Call ``act(*args)`` if the lock is free right now. Raises as `run` does."""
        with suppress(_Busy):
            self.run(act, *args, waits=False)

    def run_among_threads(self, act: Callable[..., Any], *args: Any) -> None:
        """Call ``act(*args)`` while no other thread of this process holds the lock, even if the file is closed.

        `act` must not touch the mapped memory.
        """
        for locked in self._attempts:
            if locked:
                try:
                    act(*args)
                finally:
                    self.thread_lock.release()
                return
            self._wait_for_thread()

    def close(self, until_s: float) -> bool:
        """Refuse new callers, and wait until `until_s` for the thread that holds the lock; whether it left in time."""
        self._closed = True
        while True:
            # A loop with one turn: after a plain `acquire`, a signal handler could raise and leave the lock taken.
            for _ in iter(partial(self.thread_lock.acquire, blocking=False), False):
                self.thread_lock.release()
                return True
            if time.monotonic() >= until_s:
                return False
            time.sleep(POLL_S)

    def _wait_for_thread(self, waits: bool = True) -> None:
        if not waits:
            raise _Busy
        # That thread may be waiting for a process that is probably stopped, and longer than an event loop may.
        if not may_wait_for_thread(_STOPPED_HOLDER_WAIT_MS if self._waited_in_vain_ms >= WAIT_MS else WAIT_MS):
            raise BackendUnavailable(f"{self._file.path}: timed out waiting for other threads of this process")
        time.sleep(POLL_S)

    def _wait_for_process(self, waits: bool) -> None:
        if not waits:
            raise _Busy
        wait_ms = process_wait_ms()
        try:
            locked = self._wait(wait_ms)
        except OSError as error:
            raise BackendUnavailable(f"{self._file.path}: cannot lock the file: {error.strerror}") from error
        if not locked:
            raise BackendUnavailable(f"{self._file.path}: {self._why_in_vain()}")

    def _wait(self, wait_ms: float) -> bool:
        """Wait for the file lock. A decision that waited for threads first has less time left: it blames no process."""
        if self._waited_in_vain_ms >= process_wait_limit_ms():
            return self._file_lock.wait(min(_STOPPED_HOLDER_WAIT_MS, wait_ms))
        stages = [(self._file_lock.wait, min(WAIT_MS, wait_ms))]
        if wait_ms > WAIT_MS:
            stages.append((self._file_lock.wait_longer, wait_ms - WAIT_MS))
        waited_ms = 0.0
        for wait, stage_ms in stages:
            if wait(stage_ms):
                return True
            waited_ms += stage_ms
            # After each stage: threads that wait for this one wait less from now on.
            self._waited_in_vain_ms = max(self._waited_in_vain_ms, waited_ms)
        return False

    def _why_in_vain(self) -> str:
        if self._waited_in_vain_ms < WAIT_MS:
            return "timed out waiting for other threads and processes"
        held_ms = self._waited_in_vain_ms
        return f"another process has held a lock for {held_ms:.0f} ms; check whether it is stopped"


class Shard(SharedLock):
    """A share of the subjects, with what this process remembers of its index. Used under its own lock."""

    __slots__ = ("root", "root_page", "sweep_turn")

    def __init__(self, file: "MappedFile", number: int) -> None:
        super().__init__(file, number)
        #: The decoded root of the index, and the page that it was decoded from.
        self.root: Any = None
        self.root_page: bytes | None = None
        self.sweep_turn = 0
