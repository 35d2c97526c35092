"""A process that ends in any orderly way has given its slots back by then, though nobody asked it to."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.redis_groups import Cluster, Service
from tests.redis_servers import RedisServer, StartRedis

from awx_ratelimit import Concurrency, Limiter, Plan
from awx_ratelimit.backends.open import open_backend

#: No slot lapses while a test runs.
PLAN = Plan("exits", (), Concurrency(20, ttl_ms=3_600_000))
AMPLE_MS = 5_000
ORDERLY = [
    "hold", "released", "held", "exits", "thread", "busy_threads", "left", "tasks", "forked", "stays_the_parents",
]  # fmt: skip
CHILDREN = [
    "multiprocessing_fork", "multiprocessing_spawn", "multiprocessing_forkserver", "multiprocessing_late", "executor",
]  # fmt: skip
ASKED = ["flushed", "flushed_by_a_task", "closed"]


def ended(url: str, way: str, *more: Any) -> "subprocess.CompletedProcess[str]":
    """A process that took a slot at `url` and has ended."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.integration.redis_exits", url, way]
    root = Path(__file__).parents[2]
    return subprocess.run(
        [*command, *map(str, more)], cwd=root, capture_output=True, text=True, timeout=50, check=False
    )


def held(url: str) -> int:
    """How many slots are taken at this moment."""
    limiter = Limiter(open_backend(f"{url}?budget_ms={AMPLE_MS}&on_outage=closed"))
    try:
        return limiter.peek("s", PLAN).held
    finally:
        limiter.close()


@pytest.mark.parametrize("way", [*ORDERLY, *CHILDREN, *ASKED])
def test_no_slot_is_taken_when_the_process_has_ended(redis_server: RedisServer, way: str) -> None:
    """See what each way does in `redis_exits`. Nothing is said about it."""
    process = ended(redis_server.url, way)

    assert process.stderr == ""
    assert process.returncode == 0
    assert held(redis_server.url) == 0


def test_an_exception_ends_a_process_in_order_too(redis_server: RedisServer) -> None:
    """What the program raises is its own business."""
    process = ended(redis_server.url, "raises")

    assert process.returncode == 1
    assert held(redis_server.url) == 0


@pytest.mark.parametrize("way", ["held", "tasks"])
def test_slots_on_a_service_that_sentinels_watch_are_given_back(redis_service: Service, way: str) -> None:
    """As on one server."""
    assert ended(redis_service.url, way).returncode == 0
    assert held(redis_service.url) == 0


@pytest.mark.parametrize("way", ["held", "tasks"])
def test_slots_on_a_cluster_are_given_back(redis_cluster: Cluster, way: str) -> None:
    """As on one server."""
    assert ended(redis_cluster.url, way).returncode == 0
    assert held(redis_cluster.url) == 0


@pytest.mark.parametrize("way", ["hangs", "is_gone"])
def test_the_end_waits_for_a_server_without_an_answer_no_longer_than_for_a_decision(
    start_redis: StartRedis, way: str
) -> None:
    """It ends within its budget more than with a server that answers, with one warning and no traceback."""
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
