"""What a process does before it ends, in whichever orderly way: `atexit`, and the end of a `multiprocessing` child.

A child that `multiprocessing` has forked ends without `atexit`, but it runs the finalizers of `multiprocessing.util`.
A process that ends by a signal, or by `os._exit`, runs neither.
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
#: With the process that each belongs to: what a child inherits is its parent's to end.
_ENDINGS: list[tuple[int, WeakMethod[_Bound]]] = []
#: After the children and other finalizers, which may still use what is ended here.
_PRIORITY = -100
#: No end takes longer, or a thread that waits for it goes on.
_MAX_END_S = 2.0


def register_at_exit(end: _Bound) -> None:
    """Call the bound method `end` before this process ends in an orderly way, if its object is still alive.

    It must bound its own waiting. A child process that renews the object calls this again.
    """
    _ENDINGS[:] = [(pid, reference) for pid, reference in _ENDINGS if reference() is not None]
    _ENDINGS.append((os.getpid(), WeakMethod(end)))


def sleep_until_exit() -> None:
    """Wait in a daemon thread, which the end of this process stops anyway: an error would only be printed there."""
    if threading.current_thread().daemon:
        time.sleep(_MAX_END_S)


def _end() -> None:
    # In a child that was forked in C and has used nothing, everything is still its parent's.
    if not SAME_PROCESS:
        return
    # Each once: `atexit` and `multiprocessing` may both call this, and a server that hangs costs its time only once.
    endings, _ENDINGS[:] = [*_ENDINGS], []
    for pid, reference in endings:
        end = reference()
        if end is not None and pid == os.getpid():
            try:
                end()
            except Exception as error:
                _log.warning("a part of the rate limiter could not be ended in order: %s", error)


def _end_with_multiprocessing(*_: Any) -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _end, exitpriority=_PRIORITY)


def _end_after_multiprocessing_begins() -> None:
    # A child of `multiprocessing` forgets all finalizers first, and then calls what is registered here. Where a server
    # forks it, it has imported its main module before that.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(_end, _end_with_multiprocessing)


# Registered at import: what users register later runs before, and may still decide and release.
atexit.register(_end)
_end_with_multiprocessing()
_end_after_multiprocessing_begins()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_after_multiprocessing_begins)
