"""Warns if this process is one of several workers of a server, because each worker has separate limits in memory.

Servers do not tell a worker about the others, and WEB_CONCURRENCY is also set for single processes. So this module
looks at /proc: the parent's command is that of a known server, and the parent has several children with the same
command that started within the same seconds. (A replaced worker has started earlier.) Without /proc there is no
warning. The first worker may look too early; the later ones then warn.
"""

import logging
import os
import re
import sys
from contextlib import suppress
from pathlib import PurePath

from awx_ratelimit.runtime.documentation import page

_log = logging.getLogger("awx_ratelimit")
_SERVERS = frozenset({"gunicorn", "uvicorn", "hypercorn", "granian", "uwsgi"})
#: The name of the server is one of the first words of the command, as in `python -m uvicorn`.
_COMMAND_WORDS = 5
_TOGETHER_S = 10.0
_MAX_BYTES = 65_536
_NUMBERS = re.compile(rb"[0-9]+")
_warned = False


def warn_about_workers(proc: str = "/proc") -> None:
    """Log a warning, once in a process, if this process is one of several workers."""
    global _warned  # noqa: PLW0603  # once in a process, for any number of backends
    if _warned:
        return
    server, workers = _find_mod_wsgi()
    # A process may end between two reads, and some systems have no /proc.
    with suppress(OSError, ValueError, IndexError):
        server, workers = (server, workers) if server else _find_workers(proc)
    if workers > 1:
        _warned = True
        _log.warning(
            "MemoryBackend is per process: with %d %s workers, clients get up to %d times the limit. "
            "Use HostBackend or Redis: see %s",
            workers,
            server,
            workers,
            page("choose-a-backend", "memory-or-a-file"),
        )


def _find_mod_wsgi() -> tuple[str, int]:
    """``mod_wsgi`` and its maximum number of processes for this application, which its own module tells."""
    processes = getattr(sys.modules.get("mod_wsgi"), "maximum_processes", None)
    return ("mod_wsgi", processes) if isinstance(processes, int) else ("", 0)


def _find_workers(proc: str) -> tuple[str, int]:
    """The server that started this process, and how many workers it has."""
    parent = os.getppid()
    server = _server_name(_read(proc, parent, "cmdline"))
    if not server:
        return "", 0
    own, started_s = _command_pattern(proc, os.getpid()), _started_s(proc, os.getpid())
    children = [int(pid) for pid in _read(proc, parent, f"task/{parent}/children").split()]
    return server, sum(
        _command_pattern(proc, pid) == own and abs(_started_s(proc, pid) - started_s) < _TOGETHER_S for pid in children
    )


def _server_name(command: bytes) -> str:
    """The name of the server that `command` starts, or an empty string."""
    for word in command.split(b"\0")[:_COMMAND_WORDS]:
        # gunicorn sets a title such as `gunicorn: master [app]`, which is one word here.
        name = PurePath(os.fsdecode(word).partition(":")[0]).name
        if name in _SERVERS:
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
