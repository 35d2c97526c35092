"""Processes that tests start, each in a group of its own, and that surely end: also if the tests are killed."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

STOP_SECONDS = 5.0
_GUARD = """
import os, signal, sys
sys.stdin.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
"""


def _fork_in_c() -> int:
    # A child in which another thread had just asked for the interpreter waits for that thread for ever. So let those
    # that have asked have it, and let nobody ask again.
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(60)
    time.sleep(0)
    pid: int = _fork()
    sys.setswitchinterval(interval_s)
    return pid


_fork = ctypes.PyDLL(None)["fork"]
#: How a process can fork: through Python, which calls its hooks, and in C, as uWSGI does, which calls none.
FORKS: dict[str, Callable[[], int]] = {"python": os.fork, "c": _fork_in_c}
#: The same as parameters of a test. A fork in C copies the interpreter's lock as another thread may hold it.
FORK_PARAMETERS = [
    pytest.param(fork, id=name, marks=[pytest.mark.own_process] * (name == "c")) for name, fork in FORKS.items()
]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def guarded(process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    """What ends the group of `process` when its input is closed: by `stop`, or because these tests have died."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
    )


def stop(process: "subprocess.Popen[bytes]", guard: "subprocess.Popen[bytes]") -> None:
    """End `process`, and whatever of its group would outlive it."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    # What is left now is killed: a server that does not stop, and workers that outlived their master.
    guard.communicate()
    process.wait()
