"""Warns if this process is one of several workers of a server, because each worker has separate limits in memory."""

from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.runtime.server_workers import WorkerWarning

_warning = WorkerWarning(
    "MemoryBackend is per process: with {workers} {server} workers, clients get up to {workers} times the limit. "
    "Use HostBackend or Redis: see {page}"
)


def warn_about_workers(proc: str = "/proc") -> None:
    """Log a warning, once in a process, if this process is one of several workers."""
    _warning.log(page("choose-a-backend", "memory-or-a-file"), proc)
