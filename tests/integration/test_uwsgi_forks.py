"""uWSGI loads the app, opens the backend and then forks in C, where no hook of Python's is called."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_host_workers import WARNING
from tests.integration.test_redis_workers import ask, serving
from tests.redis_servers import RedisServer

#: What the app allows.
DAY, SLOTS = 100, 3
UWSGI = (
    "uwsgi --http-socket 127.0.0.1:{port} --master --processes 4 --die-on-term --need-app --listen 64"
    " --module tests.integration.process_apps:app"
)
THREADS = UWSGI + " --threads 4"


@pytest.fixture(params=["host", "redis"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each backend that processes share."""
    if request.param == "host":
        return f"host://{tmp_path}/limits"
    server: RedisServer = request.getfixturevalue("redis_server")
    return f"{server.socket_url}?budget_ms=5000"


@pytest.fixture(params=[UWSGI, THREADS], ids=["processes", "threads"])
def port(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[int]:
    """Four workers that were forked from a master with an open backend."""
    with serving(request.param, backend, tmp_path, workers=1) as port:
        yield port


def answers(port: int, path: str, times: int) -> list[dict[str, Any]]:
    """What the workers said, asked by many threads at once."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(lambda _: json.loads(ask(port, path)[1]), range(times)))


def test_workers_that_were_forked_in_c_share_exact_limits(port: int) -> None:
    """Of three times as many claims as there are tokens exactly those are admitted; of slots, never one too many.

    Each slot has a lease of its own, and the workers say that they are well.
    """
    taken = answers(port, "/take", 3 * DAY)
    kept = answers(port, "/keep", 8 * SLOTS)
    states = {said["state"] for said in answers(port, "/health", 16)}
    leases = [said["lease"] for said in kept if said["allowed"]]

    assert sum(said["allowed"] for said in taken) == DAY
    assert len({said["pid"] for said in taken}) > 1
    assert len(leases) == SLOTS
    assert len(set(leases)) == SLOTS
    assert states == {"ok"}


def test_workers_in_memory_are_warned_after_a_fork_in_c(tmp_path: Path) -> None:
    """Each of several workers with limits in memory says that they are its own."""
    with serving(UWSGI, "memory://", tmp_path) as port:
        answers(port, "/take", 32)

    assert WARNING in (tmp_path / "log").read_text()
