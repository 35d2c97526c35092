"""`WorkerWarning`: warns if this process is one of several workers of a server.

It is called when a limiter is made, and before the first decision of a child process.

Servers do not tell a worker about the others, and WEB_CONCURRENCY is also set for single processes. So this module
looks at /proc: the parent's command is that of a known server, and the parent has several children with the same
command that started within the same seconds. (A replaced worker has started earlier.) Without /proc there is no
warning. The first worker may look too early; the later ones then warn. A process of a pool that a worker has made is
no worker, although its parent's command is that of the server: multiprocessing tells what it runs.
"""

import logging
import os
import re
import sys
from contextlib import suppress
from pathlib import PurePath
from typing import Final

_log = logging.getLogger("awx_ratelimit")
SERVERS: Final = frozenset({"gunicorn", "uvicorn", "hypercorn", "granian", "uwsgi"})
#: The name of the server is one of the first words of the command, as in `python -m uvicorn`.
_COMMAND_WORDS: Final = 5
_TOGETHER_S: Final = 10.0
_MAX_BYTES: Final = 65_536
_NUMBERS: Final = re.compile(rb"[0-9]+")


class WorkerWarning:
    """A warning with the number of `workers` and the `server`.

    The `message` may use these, and the `page` and the `expected` workers that `log` gets.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        #: It is logged once in a process.
        self.is_logged = False

    def log(self, page: str, proc: str = "/proc", *, expected: int = 1) -> None:
        """Log it, unless it was logged before, if this process is one of more than `expected` workers."""
        if self.is_logged:
            return
        server, workers = workers_of_server(proc)
        if workers > expected:
            self.is_logged = True
            text = self._message.format(server=server, workers=workers, page=page, expected=expected)
            _log.warning("%s", text)


def workers_of_server(proc: str = "/proc") -> tuple[str, int]:
    """The server that started this process, and how many workers it has; an empty name if none was found."""
    found = _find_mod_wsgi()
    # A process may end between two reads, and some systems have no /proc.
    with suppress(OSError, ValueError, IndexError):
        found = found if found[0] else _find_workers(proc)
    return found


def _find_mod_wsgi() -> tuple[str, int]:
    """``mod_wsgi`` and its maximum number of processes for this application, which its own module tells."""
    processes = getattr(sys.modules.get("mod_wsgi"), "maximum_processes", None)
    return ("mod_wsgi", processes) if isinstance(processes, int) else ("", 0)


def _find_workers(proc: str) -> tuple[str, int]:
    """The server that started this process, and how many workers it has."""
    parent = os.getppid()
    server = _server_name(_read(proc, parent, "cmdline"))
    if not server or not _may_be_worker(server):
        return "", 0
    own, started_s = _command_pattern(proc, os.getpid()), _started_s(proc, os.getpid())
    children = [int(pid) for pid in _read(proc, parent, f"task/{parent}/children").split()]
    return server, sum(
        _command_pattern(proc, pid) == own and abs(_started_s(proc, pid) - started_s) < _TOGETHER_S for pid in children
    )


def _may_be_worker(server: str) -> bool:
    """Whether multiprocessing has not started this process, or to run a function of `server`."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None:
        return True
    target = getattr(processes.current_process(), "_target", None)
    module: str = getattr(target, "__module__", None) or ""
    return module.partition(".")[0] == server


def _server_name(command: bytes) -> str:
    """The name of the server that `command` starts, or an empty string."""
    for word in command.split(b"\0")[:_COMMAND_WORDS]:
        # gunicorn sets a title such as `gunicorn: master [app]`, which is one word here.
        name = PurePath(os.fsdecode(word).partition(":")[0]).name
        if name in SERVERS:
            return name
    return ""


def _command_pattern(proc: str, pid: int) -> bytes:
    """The command of a process without its numbers, which differ between workers."""
    return _NUMBERS.sub(b"", _read(proc, pid, "cmdline"))


def _started_s(proc: str, pid: int) -> float:
    """The start time of a process, in seconds since boot: field 22 of proc_pid_stat(5)."""
    fields = _read(proc, pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _read(proc: str, pid: int, name: str) -> bytes:
    fd = os.open(f"{proc}/{pid}/{name}", os.O_RDONLY)
    try:
        return os.pread(fd, _MAX_BYTES, 0)
    finally:
        os.close(fd)
