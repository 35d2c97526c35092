"""What changes in a child process: locks, threads, connections and leases are replaced before the child decides.

Python calls the hooks registered here when it forks. A server that forks in C, such as uWSGI, calls no hook. Every
decision therefore checks `SAME_PROCESS` first, which costs some 10 ns where `os.getpid` costs up to 300.

gevent replaces the locks, queues and threads of Python, and under gunicorn it does so after the fork and the hooks. A
lock made before stops all greenlets when one of them waits for it. So the first decision of a process checks whether
that has happened since, and replaces everything once more if so.
"""

import logging
import mmap
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast
from weakref import WeakMethod

_log = logging.getLogger("awx_ratelimit")
_Bound = Callable[[], Any]
#: A process, and what its locks are made by.
_Surroundings: TypeAlias = tuple[int, Any]
_RENEWALS: list[WeakMethod[_Bound]] = []
_PAUSES: list[WeakMethod[_Bound]] = []
_RESUMPTIONS: list[WeakMethod[_Bound]] = []
#: The kernel fills such a page with zeros in a child (Linux 4.14, madvise(2)). The `mmap` module has no name for it.
_MADV_WIPEONFORK = 18


class ProcessMark(Protocol):
    """True in the process that set its `value` to 1, and false in its children."""

    value: int

    def __bool__(self) -> bool: ...


class PidMark:
    """A `ProcessMark` for systems without such pages: slower, because it asks for the pid each time."""

    def __init__(self) -> None:
        self._pid = 0

    def __bool__(self) -> bool:
        return os.getpid() == self._pid

    @property
    def value(self) -> int:
        """1 in the process that set it to 1, else 0."""
        return int(bool(self))

    @value.setter
    def value(self, value: int) -> None:
        self._pid = os.getpid() if value else 0


def process_mark() -> ProcessMark:
    """A mark of this process."""
    mark: ProcessMark
    try:
        # Its truth is one comparison in C: to read an item of the page takes three times as long.
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


#: Check it where a nanosecond counts; elsewhere call `renew_if_forked`.
SAME_PROCESS = process_mark()
#: What everything was last made for.
_made_for = [_surroundings()]
# False until the first decision, which comes after gevent has patched what it patches.
SAME_PROCESS.value = 0
_TURNS: dict[_Surroundings, Any] = {}
_renewing_in: set[_Surroundings] = set()


def register_after_fork(renew: _Bound) -> None:
    """Call the bound method `renew` in each child process, for as long as its object lives."""
    _remember(_RENEWALS, renew)


def register_around_fork(pause: _Bound, resume: _Bound) -> None:
    """Call the bound method `pause` before each fork and `resume` after it in the parent, as long as they live.

    For what must not be under way while a process is doubled: a file that is open and locked, say.
    """
    _remember(_PAUSES, pause)
    _remember(_RESUMPTIONS, resume)


def renew_if_forked() -> None:
    """Renew everything if this is a child that was forked without the hooks, or was patched. Any thread may call it."""
    if SAME_PROCESS:
        return
    here = _surroundings()
    # A lock of this process alone: the parent's may have been held at the fork.
    with _TURNS.setdefault(here, threading.RLock()):
        # A renewal may use what it has renewed, which checks again.
        if not SAME_PROCESS and here not in _renewing_in:
            _renewing_in.add(here)
            try:
                if _made_for[0] != here:
                    _renew()
                _made_for[0] = here
                SAME_PROCESS.value = 1
            finally:
                _renewing_in.discard(here)


def _renew_in_child() -> None:
    renew_if_forked()
    # The child may still be patched: its first decision checks again.
    SAME_PROCESS.value = 0


def _renew() -> None:
    for reference in [*_RENEWALS]:
        renew = reference()
        try:
            if renew is not None:
                renew()
        except Exception:
            # The others must still be renewed.
            _log.exception("a part of the rate limiter could not be prepared for this child process")


def _remember(known: list[WeakMethod[_Bound]], method: _Bound) -> None:
    known[:] = [reference for reference in known if reference() is not None]
    known.append(WeakMethod(method))


def _call(known: list[WeakMethod[_Bound]]) -> None:
    for reference in known:
        method = reference()
        if method is not None:
            method()


# A platform without fork has nothing to renew.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call(_PAUSES),
        after_in_parent=lambda: _call(_RESUMPTIONS),
        after_in_child=_renew_in_child,
    )
