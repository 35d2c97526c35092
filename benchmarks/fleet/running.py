"""Real servers of this machine, and limiters that use them."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.fleet.costs import SERVICE_KINDS
from tests.postgres_servers import running_postgres
from tests.redis_groups import running_cluster
from tests.redis_servers import running_redis

from awx_ratelimit import AsyncLimiter, Budget, Plan
from awx_ratelimit.backends.open import open_async_backend

PLAN = Plan.of("bench", per_minute=10**6, per_day=10**8, concurrent=10**6)
SERVICE = (Budget("all", PLAN, "service"),)
#: Where they run while they are measured: places in the list of cores.
CLIENT, SERVER = 0, -1
_CORES = sorted(os.sched_getaffinity(0))
#: A busy machine is no outage.
BUDGET_MS = 5_000


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server, its URL, and the ids of its processes."""

    url: str
    pids: Callable[[], Sequence[int]]

    def used_s(self) -> dict[int, float]:
        """The processor time of each process."""
        used = {}
        for pid in self.pids():
            with suppress(OSError):
                used[pid] = used_s(pid)
        return used

    def total_s(self) -> float:
        """The processor time of all processes until now, also of those that have ended."""
        return sum(_with_ended_children_s(pid) for pid in self.pids())

    def run_on(self, core: int) -> None:
        """Keep its processes on one of the cores."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(pid, {_CORES[core]})

    def signal(self, number: int) -> None:
        """Send a signal to each process."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def used_since_s(self, before: dict[int, float]) -> float:
        """The processor time since `before`. That of processes which have ended meanwhile is missing."""
        return sum(now_s - before.get(pid, 0.0) for pid, now_s in self.used_s().items())


def _with_ended_children_s(pid: int) -> float:
    """The processor time of another process and of its children that have ended; 0 if it has ended itself."""
    try:
        # The name of the program may have spaces, but no parenthesis after its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def used_s(pid: int) -> float:
    """The processor time of another process (see clock_getcpuclockid). Raises OSError if it has ended."""
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def running(kind: str) -> Iterator[RunningServer]:
    """A server of its own, of one of the kinds of costs."""
    with TemporaryDirectory() as folder:
        if kind.startswith("postgres"):
            with running_postgres() as postgres:
                yield RunningServer(postgres.url(postgres.new_database()), postgres.pids)
        elif kind.startswith("redis cluster"):
            with running_cluster(Path(folder), primaries=1) as cluster:
                yield RunningServer(cluster.url, lambda: [cluster.primaries[0].pid])
        else:
            with running_redis(Path(folder)) as redis:
                yield RunningServer(redis.url, lambda: [redis.pid])


@contextmanager
def apart_from(server: RunningServer) -> Iterator[None]:
    """Keep the server on its core, and this process on another, during a block."""
    server.run_on(SERVER)
    os.sched_setaffinity(0, {_CORES[CLIENT]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def also_of(kind: str) -> Sequence[Budget]:
    """The other budgets of each claim."""
    return SERVICE if kind in SERVICE_KINDS else ()


def limiter_at(url: str, budget_ms: int = BUDGET_MS, workers: int = 1) -> AsyncLimiter:
    """A limiter as the middleware makes it."""
    options = f"budget_ms={budget_ms}&expected_workers={workers}"
    return AsyncLimiter(open_async_backend(f"{url}{'&' if '?' in url else '?'}{options}"))


def remote_backend(limiter: AsyncLimiter) -> Any:
    """The backend of the server, without its wrappers."""
    backend: Any = limiter.backend
    while hasattr(backend, "backend"):
        backend = backend.backend
    return backend


def subject_names(number: int) -> list[str]:
    """The names of subjects 0, 1, ..."""
    return [f"subject {each}" for each in range(number)]
