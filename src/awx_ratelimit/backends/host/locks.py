"""Locks on bytes of a file that the kernel takes back from whoever dies: among processes, and in front of them threads.

They belong to the open file description (Linux 3.15, fcntl(2)): a file that is opened twice excludes itself, in one
process too, and no other descriptor that is closed loses them. A byte need not exist to be locked.

They are taken through ctypes for one reason: Python's own call lets go of the interpreter, and may then wait 5 ms for
each busy thread to get it back, with the lock in its hands. Beside three such threads in each of two processes the
95th percentile of a decision was 20 ms that way; this way it was 0.1 ms. No call here waits.
"""

import ctypes
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from struct import Struct
from typing import Any, Final, Protocol, TypeVar

from awx_ratelimit.backends.host.waits import WAIT_MS, may_wait_for_thread, process_wait_ms
from awx_ratelimit.errors import BackendUnavailable

#: How long to wait again for a process where nobody has come in since: it is one that is stopped.
_WAIT_AGAIN_MS = 2
_TRIES = 100
_LOOK_AGAIN_S = 0.000_05
CUT_SHORT: Final = "it was cut short"
_NEVER = object()
#: A lock request as the kernel takes it: struct flock of 64-bit Linux.
_REQUEST = Struct("@hhqqi4x")
_LIFE_AT = 1 << 61
_LOCKS_AT = 1 << 62
LIFE_BITS: Final = 60
_Answer = TypeVar("_Answer")

_fcntl = ctypes.PyDLL(None)["fcntl"]


def _request(kind: int, at: int) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(_REQUEST.pack(kind, 0, at, 1, 0), _REQUEST.size)


class ByteLock:
    """Byte `number` of those that are locks. `take()` tries once: 0 when it was taken. `give()` is harmless twice.

    Both are C and not Python: no signal handler comes between the call and what it does.
    """

    __slots__ = ("_again", "give", "take")

    def __init__(self, fd: int, number: int, *, base: int = _LOCKS_AT) -> None:
        self.take: Callable[[], int] = partial(_fcntl, fd, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK, base + number))
        self.give: Callable[[], int] = partial(_fcntl, fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, base + number))
        self._again = partial(fcntl.fcntl, fd, fcntl.F_OFD_SETLK, _REQUEST.pack(fcntl.F_WRLCK, 0, base + number, 1, 0))

    def wait(self, wait_ms: float) -> bool:
        """Whether it was taken within so long. Raises OSError where nothing is ever locked."""
        take, until_s = self.take, time.monotonic() + wait_ms / 1000
        while True:
            for _ in range(_TRIES):
                if not take():
                    return True
                if time.monotonic() >= until_s:
                    break
                # Whoever holds it needs microseconds, and may be waiting for this very processor.
                os.sched_yield()
            # What failed is asked again in a way that says why.
            with suppress(BlockingIOError, PermissionError):
                self._again()
                return True
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_AGAIN_S)


class Shut(Exception):
    """The file was closed, here or because another one has taken its place."""


class Mapped(Protocol):
    """A file whose bytes are memory."""

    path: str
    fd: int
    mapped_bytes: int
    file_bytes: Callable[[], int]

    def damaged(self, what: str) -> BackendUnavailable:
        """The error for what cannot be read any more."""
        ...


class Stripe:
    """The lock of a share of a file: one thread of one process is in, and the file is as large as its memory.

    To touch memory that the file does not have any more is death; so who was not let in here does not touch any.
    """

    __slots__ = ("_file", "_mapped", "_shut", "_stuck", "_turns", "lock", "number", "root", "root_seen", "swept")

    def __init__(self, mapped: Mapped, number: int) -> None:
        self.number = number
        self._mapped = mapped
        self._shut = False
        self._file = ByteLock(mapped.fd, number)
        self._stuck = False
        self.guard_by(threading.Lock())
        #: What its table knows of it.
        self.root: Any = None
        self.root_seen: bytes | None = None
        self.swept = 0

    def guard_by(self, lock: threading.Lock) -> None:
        """Use this lock among threads from now on."""
        self.lock = lock
        # See the memory backend's stripe: an iterator leaves no place for a signal handler to raise in between.
        self._turns: Iterator[object] = iter(partial(lock.acquire, False), _NEVER)

    def run(self, act: Callable[..., _Answer], *args: Any) -> _Answer:
        """What `act` answers, alone in here. Raises Shut, and BackendUnavailable where the wait is too long."""
        lock, file, mapped = self.lock, self._file, self._mapped
        for taken in self._turns:
            if not taken:
                self._wait_for_thread()
                continue
            try:
                if self._shut:
                    raise Shut
                try:
                    if file.take():
                        self._wait_for_process()
                    self._stuck = False
                    if mapped.file_bytes() < mapped.mapped_bytes:
                        raise mapped.damaged(CUT_SHORT)
                    return act(*args)
                finally:
                    file.give()
            finally:
                lock.release()
        raise AssertionError

    def run_now(self, act: Callable[..., Any], *args: Any) -> bool:
        """Run `act` alone in here if that is possible without waiting; whether it was. Raises as `run` does."""
        lock, file, mapped = self.lock, self._file, self._mapped
        for taken in self._turns:
            if not taken:
                return False
            try:
                if self._shut:
                    raise Shut
                try:
                    if file.take():
                        return False
                    if mapped.file_bytes() < mapped.mapped_bytes:
                        raise mapped.damaged(CUT_SHORT)
                    act(*args)
                    return True
                finally:
                    file.give()
            finally:
                lock.release()
        raise AssertionError

    def run_apart(self, act: Callable[..., Any], *args: Any) -> None:
        """Run `act` while no other thread of this process is in here, in a file that may be there no more."""
        for taken in self._turns:
            if taken:
                try:
                    act(*args)
                finally:
                    self.lock.release()
                return
            self._wait_for_thread()

    def shut(self, until_s: float) -> bool:
        """Let nobody in any more, and whoever is in go out by then; whether that was seen to the end."""
        self._shut = True
        while not self.lock.acquire(blocking=False):
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_AGAIN_S)
        self.lock.release()
        return True

    def _wait_for_thread(self) -> None:
        if not may_wait_for_thread():
            raise BackendUnavailable(f"{self._mapped.path}: other threads of this process are still deciding")
        time.sleep(_LOOK_AGAIN_S)

    def _wait_for_process(self) -> None:
        wait_ms = process_wait_ms()
        try:
            taken = self._file.wait(min(_WAIT_AGAIN_MS, wait_ms) if self._stuck else wait_ms)
        except OSError as error:
            raise BackendUnavailable(f"{self._mapped.path}: it cannot be locked: {error.strerror}") from error
        if taken:
            return
        # A decision that has waited for threads has less time left, which shows nothing about the process.
        self._stuck = self._stuck or wait_ms >= WAIT_MS
        raise BackendUnavailable(
            f"{self._mapped.path}: another process has been deciding for {WAIT_MS} ms; is it stopped?"
            if self._stuck
            else f"{self._mapped.path}: other threads and processes are still deciding, and the time to wait is over"
        )


def life_lock(fd: int, process: int) -> ByteLock:
    """The lock that says, while it is held, that the process of this number is alive."""
    return ByteLock(fd, process, base=_LIFE_AT)


def is_free(fd: int, process: int) -> bool:
    """Whether nobody else holds the lock on the life of `process`, so that it is dead."""
    if process >> LIFE_BITS:
        return True
    request = _request(fcntl.F_WRLCK, _LIFE_AT + process)
    return _fcntl(fd, fcntl.F_OFD_GETLK, request) == 0 and request.raw[:2] == _UNLOCKED


_UNLOCKED = _REQUEST.pack(fcntl.F_UNLCK, 0, 0, 0, 0)[:2]
