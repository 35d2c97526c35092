"""Processes that tests start, each in its own group. They always end, even if the tests are killed."""

import _thread
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.machine import eventually

STOP_SECONDS = 5.0
_PORTS = range(12_000, 32_000)
#: Not in TMPDIR: test runs with different ones would get the same ports.
_PORT_COUNTER = Path(f"/tmp/awx-test-ports-{os.getuid()}")
#: A shell starts in a tenth of the time that Python takes. `read` returns when its input is closed.
_GUARD = 'read -r _; kill -s KILL -- "-$0"'


def _fork_in_c() -> int:
    # Let the threads that wait for the interpreter run, and prevent others from requesting it during the fork.
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(60)
    time.sleep(0)
    pid = 0
    while not pid:
        reading, writing = os.pipe()
        pid = _fork()
        if not pid:
            sys.setswitchinterval(interval_s)
            _switch_threads()
            os.write(writing, b"x")
            os.close(reading)
            os.close(writing)
            return 0
        # If a thread still requested the interpreter, the child hangs: its interpreter waits for a missing thread.
        if not select.select([reading], [], [], 10)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pid = 0
        os.close(reading)
        os.close(writing)
    sys.setswitchinterval(interval_s)
    return pid


def _switch_threads() -> None:
    for _ in range(50):
        ended = _thread.allocate_lock()
        ended.acquire()
        _thread.start_new_thread(ended.release, ())
        ended.acquire()


_fork = ctypes.PyDLL(None)["fork"]
#: How a process can fork: through Python, which calls its hooks, and in C, as uWSGI does, which calls none.
FORKS: dict[str, Callable[[], int]] = {"python": os.fork, "c": _fork_in_c}
#: The same as parameters of a test. A fork in C copies the interpreter's lock as another thread may hold it.
FORK_PARAMETERS = [
    pytest.param(fork, id=name, marks=[pytest.mark.own_process] * (name == "c")) for name, fork in FORKS.items()
]


def in_child(fork: Callable[[], int], act: Callable[[], bool]) -> bool:
    """Return whether `act` is true in a child process, within a minute."""
    pid = fork()
    if pid == 0:
        signal.alarm(60)
        status = 2
        # An exception that left this function would make the child a second pytest.
        try:
            status = 0 if act() else 1
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def free_port() -> int:
    """Return a port that nothing listens on, and that no test process on this machine gets in the next minutes.

    The ports are below the range from which Linux takes the local ports of connections.
    """
    # A port that the kernel picks for a probe is free again at once, and another worker may get it as well.
    with _PORT_COUNTER.open("a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        port = int(counter.read() or _PORTS.start)
        while True:
            port = port + 1 if port + 1 in _PORTS else _PORTS.start
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                break
        counter.truncate(0)
        counter.write(str(port))
    return port


def wait_until_up(process: "subprocess.Popen[bytes]", answers: Callable[[], bool], log: Path, seconds: float) -> None:
    """Wait until a server answers. Fail with its log if it ends, or if `eventually` has waited for `seconds`."""
    is_known = eventually(lambda: process.poll() is not None or answers(), expected=True, seconds=seconds)
    status = process.poll()
    if not is_known or status is not None:
        problem = "does not answer" if status is None else f"ended with {status}"
        pytest.fail(f"{process.args!r} {problem}:\n{log.read_text(errors='replace')}")


@contextlib.contextmanager
def answering(
    command: Sequence[str],
    log: Path,
    answers: Callable[[], bool],
    seconds: float,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that answers, whose output is in `log`. Whatever happens, no process of its group is left afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    guard = guarded(process)
    try:
        wait_until_up(process, answers, log, seconds)
        yield process
    finally:
        stop(process, guard)


def is_listening(host: str, port: int) -> bool:
    """Whether a connection to a port can be opened."""
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 1.0).close()
        return True
    return False


def guarded(process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    """Start a guard that ends the group of `process` when its input is closed: by `stop`, or by the tests' death."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, str(process.pid)],
        stdin=subprocess.PIPE,
        # There may be nothing left to kill.
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(process: "subprocess.Popen[bytes]", guard: "subprocess.Popen[bytes]") -> None:
    """Stop `process`, and everything in its group that would outlive it."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    # Kill the rest: a server that does not stop, and workers that outlived their master.
    guard.communicate()
    process.wait()
