"""Whether this process is one of several workers of a server: then what it keeps in memory is a limit for each of them.

Nobody tells a worker that it has siblings, and what the environment says (WEB_CONCURRENCY) is said to programs of one
process too. So it is looked at: a parent whose command is that of a server known to start workers, and more than one
child of it of the same kind as this one, begun within the same seconds, for one that is replaced is no sibling. What
cannot be seen, as where there is no /proc, is no reason to say anything; who is looked at too early is warned by those
who come after it.
"""

import logging
import os
import re
import sys
from contextlib import suppress
from pathlib import PurePath

_log = logging.getLogger("awx_ratelimit")
_SERVERS = frozenset({"gunicorn", "uvicorn", "hypercorn", "granian", "uwsgi"})
#: Where in a command the server may stand, as in `python -m uvicorn`.
_COMMAND_WORDS = 5
_TOGETHER_S = 10.0
_MOST_BYTES = 65_536
_NUMBERS = re.compile(rb"[0-9]+")
_warned = False


def warn_about_workers(proc: str = "/proc") -> None:
    """Say in the log, once in a process, that each of several workers has limits of its own."""
    global _warned  # noqa: PLW0603  # once in a process, however many backends it has
    if _warned:
        return
    server, workers = _in_apache()
    # A process that has just ended, and a system that shows nothing.
    with suppress(OSError, ValueError, IndexError):
        server, workers = (server, workers) if server else _seen(proc)
    if workers > 1:
        _warned = True
        _log.warning(
            "MemoryBackend is per process: with %d %s workers, clients get up to %d times the limit. "
            "Use HostBackend or Redis.",
            workers,
            server,
            workers,
        )


def _in_apache() -> tuple[str, int]:
    """mod_wsgi, and how many processes it may run of this application: it says so in a module of its own."""
    processes = getattr(sys.modules.get("mod_wsgi"), "maximum_processes", None)
    return ("mod_wsgi", processes) if isinstance(processes, int) else ("", 0)


def _seen(proc: str) -> tuple[str, int]:
    """The server that has started this process, and how many like it."""
    parent = os.getppid()
    server = _server(_read(proc, parent, "cmdline"))
    if not server:
        return "", 0
    own, begun_s = _kind(proc, os.getpid()), _begun_s(proc, os.getpid())
    children = [int(pid) for pid in _read(proc, parent, f"task/{parent}/children").split()]
    return server, sum(_kind(proc, pid) == own and abs(_begun_s(proc, pid) - begun_s) < _TOGETHER_S for pid in children)


def _server(command: bytes) -> str:
    """Which of the servers a command is, or nothing."""
    for word in command.split(b"\0")[:_COMMAND_WORDS]:
        # A title such as `gunicorn: master [app]` is one word.
        name = PurePath(os.fsdecode(word).partition(":")[0]).name
        if name in _SERVERS:
            return name
    return ""


def _kind(proc: str, pid: int) -> bytes:
    """The command of a process but for its numbers, by which workers differ."""
    return _NUMBERS.sub(b"", _read(proc, pid, "cmdline"))


def _begun_s(proc: str, pid: int) -> float:
    """When a process began, in seconds since the machine did: field 22 of proc_pid_stat(5)."""
    fields = _read(proc, pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _read(proc: str, pid: int, name: str) -> bytes:
    fd = os.open(f"{proc}/{pid}/{name}", os.O_RDONLY)
    try:
        return os.pread(fd, _MOST_BYTES, 0)
    finally:
        os.close(fd)
