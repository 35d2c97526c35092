"""Processes that tests start, each in a group of its own, and that surely end: also if the tests are killed."""

import contextlib
import signal
import socket
import subprocess
import sys

STOP_SECONDS = 5.0
_GUARD = """
import os, signal, sys
sys.stdin.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
"""


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
