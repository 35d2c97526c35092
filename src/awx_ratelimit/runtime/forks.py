"""Replaces locks, threads, connections and leases in a child process before it decides.

Python runs the hooks of this module when it forks. A server that forks in C, such as uWSGI, runs no hook. So every
decision checks `SAME_PROCESS` first, which takes about 10 ns; `os.getpid` takes up to 300.

gevent replaces Python's locks, queues and threads. Under gunicorn it does so after the fork and the hooks. An older
lock then blocks all greenlets if one of them waits for it. So the first decision of a process checks whether gevent
has patched Python since, and replaces everything again if so.
"""

import logging
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, cast
from weakref import WeakMethod

_log = logging.getLogger("awx_ratelimit")
_Bound = Callable[[], Any]
#: The pid of a process, and the factory of its locks.
_Surroundings: TypeAlias = tuple[int, Any]
_RENEWALS: list[WeakMethod[_Bound]] = []
_FIRST_DECISIONS: list[WeakMethod[_Bound]] = []
_PAUSES: list[WeakMethod[_Bound]] = []
_RESUMPTIONS: list[WeakMethod[_Bound]] = []
#: The kernel fills such a page with zeros in a child (Linux 4.14, madvise(2)). The module `mmap` lacks the constant.
_MADV_WIPEONFORK = 18


class ProcessMark(Protocol):
    """True in the process that set its `value` to 1; false in child processes."""

    value: int

    def __bool__(self) -> bool: ...


class PidMark:
    """A `ProcessMark` for systems without such pages. It is slower, because it calls `os.getpid` each time."""

    def __init__(self) -> None:
        self._pid = 0

    def __bool__(self) -> bool:
        return os.getpid() == self._pid

    @property
    def value(self) -> int:
        """1 in the process that set it to 1; else 0."""
        return int(bool(self))

    @value.setter
    def value(self, value: int) -> None:
        self._pid = os.getpid() if value else 0


def process_mark() -> ProcessMark:
    """Create a mark of this process."""
    mark: ProcessMark
    try:
        # `bool` of a ctypes object is one comparison in C; reading an item of the page takes three times as long.
        from ctypes import c_ubyte

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
        mark = cast(ProcessMark, c_ubyte.from_buffer(page))
    except (AttributeError, ImportError, OSError, ValueError):
        mark = PidMark()
    mark.value = 1
    return mark


def _surroundings() -> _Surroundings:
    return os.getpid(), threading.Lock


#: Check it on the hot path; elsewhere call `renew_if_forked`.
SAME_PROCESS = process_mark()
#: The surroundings for which everything was last renewed.
_renewed_for = [_surroundings()]
# False until the first decision, because gevent patches Python before that.
SAME_PROCESS.value = 0
_LOCKS: dict[_Surroundings, Any] = {}
_renewing_in: set[_Surroundings] = set()
#: Not empty in a child process that has not decided yet.
_undecided: list[None] = []


def register_after_fork(renew: _Bound) -> None:
    """Call the bound method `renew` in each child process, as long as its object lives."""
    _remember(_RENEWALS, renew)


def register_first_decision(act: _Bound) -> None:
    """Call the bound method `act` before the first decision of each child process, as long as its object lives.

    Most children of a program decide nothing. During the fork it is not known yet what a child is for.
    """
    _remember(_FIRST_DECISIONS, act)


class ForkSafeLock:
    """A lock as `current`, which is another one in each child process: the parent's may be locked."""

    def __init__(self) -> None:
        self._renew()
        register_after_fork(self._renew)

    def _renew(self) -> None:
        self.current = threading.Lock()


def register_around_fork(pause: _Bound, resume: _Bound) -> None:
    """Call the bound method `pause` before each fork, and `resume` after it in the parent, while their object lives.

    Use it for work that must not be in progress during a fork, such as writing to a locked file.
    """
    _remember(_PAUSES, pause)
    _remember(_RESUMPTIONS, resume)


def renew_if_forked() -> None:
    """Renew everything if this process was forked without the hooks, or patched by gevent. Thread-safe."""
    if SAME_PROCESS:
        return
    _renew_here()
    # Only one of several threads takes it.
    with suppress(IndexError):
        _undecided.pop()
        _call(_FIRST_DECISIONS)


def _renew_here() -> None:
    here = _surroundings()
    # A new lock for each process: the parent's may have been locked during the fork.
    with _LOCKS.setdefault(here, threading.RLock()):
        # The second condition: a renewal may use renewed objects, which call this function again.
        if not SAME_PROCESS and here not in _renewing_in:
            try:
                # Not before the `try`: a signal handler that raised in between would leave it there for ever.
                _renewing_in.add(here)
                if _renewed_for[0] != here:
                    _renew()
                _renewed_for[0] = here
                SAME_PROCESS.value = 1
            finally:
                _renewing_in.discard(here)


def _renew_in_child() -> None:
    _renew_here()
    # gevent may still patch the child, so its first decision checks again.
    SAME_PROCESS.value = 0


def _renew() -> None:
    for reference in [*_RENEWALS]:
        renew = reference()
        try:
            if renew is not None:
                renew()
        except Exception:
            # Continue: the others must still be renewed.
            _log.exception("a part of the rate limiter could not be prepared for this child process")
    _undecided[:] = [None]


def _remember(known: list[WeakMethod[_Bound]], method: _Bound) -> None:
    known[:] = [reference for reference in known if reference() is not None]
    known.append(WeakMethod(method))


def _call(known: list[WeakMethod[_Bound]]) -> None:
    for reference in known:
        method = reference()
        if method is not None:
            method()


# Some platforms cannot fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call(_PAUSES),
        after_in_parent=lambda: _call(_RESUMPTIONS),
        after_in_child=_renew_in_child,
    )
