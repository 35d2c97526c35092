"""Calls methods before this process exits: by `atexit`, and in children of `multiprocessing`.

A child that `multiprocessing` forked does not run `atexit`, but it runs the finalizers of `multiprocessing.util`. A
process that is killed by a signal or calls `os._exit` runs neither.
"""

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from awx_ratelimit.runtime.forks import SAME_PROCESS

_log = logging.getLogger("awx_ratelimit")
_Bound = Callable[[], Any]
#: Each with the pid of its process: a child must not call the methods that its parent registered.
_METHODS: list[tuple[int, WeakMethod[_Bound]]] = []
#: Low, so that it runs after other finalizers, which may still use the limiter.
_PRIORITY = -100
#: No registered method takes longer.
_MAX_END_S = 2.0


def register_at_exit(end: _Bound) -> None:
    """Call the bound method `end` before this process exits normally, if its object is still alive.

    `end` must bound its own waits. A child process that renews the object has to register it again.
    """
    _METHODS[:] = [(pid, reference) for pid, reference in _METHODS if reference() is not None]
    _METHODS.append((os.getpid(), WeakMethod(end)))


def sleep_until_exit() -> None:
    """Sleep if this is a daemon thread. The exit stops it anyway, and an exception would only print a traceback."""
    if threading.current_thread().daemon:
        time.sleep(_MAX_END_S)


def _end() -> None:
    # False in a child that was forked in C and has not used the library: everything belongs to its parent.
    if not SAME_PROCESS:
        return
    # Emptied first: `atexit` and `multiprocessing` may both call this, but a hanging server should cost its time once.
    methods, _METHODS[:] = [*_METHODS], []
    for pid, reference in methods:
        end = reference()
        if end is not None and pid == os.getpid():
            try:
                end()
            except Exception as error:
                _log.warning("a part of the rate limiter could not be closed at exit: %s", error)


def _end_with_multiprocessing(*_: Any) -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _end, exitpriority=_PRIORITY)


def _end_after_multiprocessing_begins() -> None:
    # A child of `multiprocessing` first clears all finalizers, then calls the function registered here. A child of its
    # fork server has imported its main module before that.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(_end, _end_with_multiprocessing)


# Registered on import: handlers that users register later run earlier, and can still decide and release.
atexit.register(_end)
_end_with_multiprocessing()
_end_after_multiprocessing_begins()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_after_multiprocessing_begins)
