"""A process that exits normally has released its slots, although it called nothing for that."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.redis_groups import Cluster, Service
from tests.redis_servers import RedisServer, StartRedis
from tests.selection import parameters

from awx_ratelimit import Concurrency, Limiter, Plan
from awx_ratelimit.backends.open import open_backend

#: Longer than a test, so that no slot lapses.
PLAN = Plan("exits", (), Concurrency(20, ttl_ms=3_600_000))
AMPLE_MS = 5_000
ORDERLY = [
    "hold", "released", "held", "exits", "thread", "busy_threads", "left", "tasks", "forked", "stays_the_parents",
]  # fmt: skip
CHILDREN = [
    "multiprocessing_fork", "multiprocessing_spawn", "multiprocessing_forkserver", "multiprocessing_late", "executor",
]  # fmt: skip
ASKED = ["flushed", "flushed_by_a_task", "closed"]
REPEATS = (
    "released", "exits", "thread", "left", "multiprocessing_fork", "multiprocessing_forkserver", "multiprocessing_late",
    "flushed",
)  # fmt: skip


def ended(url: str, way: str, *more: Any) -> "subprocess.CompletedProcess[str]":
    """Run a process that takes a slot at `url`, to its end."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.integration.redis_exits", url, way]
    root = Path(__file__).parents[2]
    return subprocess.run(
        [*command, *map(str, more)], cwd=root, capture_output=True, text=True, timeout=50, check=False
    )


def held(url: str) -> int:
    """The slots in use now."""
    limiter = Limiter(open_backend(f"{url}?budget_ms={AMPLE_MS}&on_outage=closed"))
    try:
        return limiter.peek("s", PLAN).held
    finally:
        limiter.close()


@pytest.mark.parametrize("way", parameters((*ORDERLY, *CHILDREN, *ASKED), full=REPEATS))
def test_ways_to_exit(redis_server: RedisServer, way: str) -> None:
    """Every way of `redis_exits` releases all slots, and prints nothing."""
    process = ended(redis_server.url, way)

    assert process.stderr == ""
    assert process.returncode == 0
    assert held(redis_server.url) == 0


def test_exception(redis_server: RedisServer) -> None:
    """A process that ends by an exception releases its slots, and prints only its own traceback."""
    process = ended(redis_server.url, "raises")

    assert process.returncode == 1
    assert held(redis_server.url) == 0


@pytest.mark.parametrize("way", parameters(["held", "tasks"], full=("tasks",)))
def test_sentinel(redis_service: Service, way: str) -> None:
    """Slots are released through Sentinel too."""
    assert ended(redis_service.url, way).returncode == 0
    assert held(redis_service.url) == 0


@pytest.mark.parametrize("way", parameters(["held", "tasks"], full=("held",)))
def test_cluster(redis_cluster: Cluster, way: str) -> None:
    """Slots are released on a cluster too."""
    assert ended(redis_cluster.url, way).returncode == 0
    assert held(redis_cluster.url) == 0


@pytest.mark.parametrize("way", ["hangs", "is_gone"])
def test_server_without_a_response(start_redis: StartRedis, way: str) -> None:
    """The exit waits at most the budget for a server that does not respond, with one warning and no traceback."""
    budget_s = 2.0
    server = start_redis()
    control = ended(server.url, "held", AMPLE_MS)
    process = ended(server.url, way, int(budget_s * 1000), server.pid)
    if way == "hangs":
        os.kill(server.pid, signal.SIGCONT)

    assert control.returncode == 0
    assert process.returncode == 0
    assert float(process.stdout) < budget_s + 2 * float(control.stdout) + 0.5
    assert "lapse after their ttl" in process.stderr
    assert process.stderr.count("\n") == 1
