"""A process that has used the backend and forks: the child starts with nothing, and the parent is not affected."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.processes import FORKS
from tests.redis_servers import RedisServer


@pytest.fixture(scope="module", params=FORKS)
def seen(request: pytest.FixtureRequest, shared_redis: RedisServer) -> Any:
    """The JSON that the processes of `redis_forked` print."""
    with shared_redis.client() as client:
        client.flushall()
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.integration.redis_forked"]
    root = Path(__file__).parents[2]
    answer = subprocess.run(
        [*command, shared_redis.socket_url, request.param], cwd=root, capture_output=True, timeout=50, check=False
    )
    assert answer.returncode == 0, answer.stderr.decode()
    return json.loads(answer.stdout)


def test_leases(seen: Any) -> None:
    """A child releases and refunds nothing of its parent's, and its own leases lapse after its end."""
    assert seen["leases"] == {"child": [4, 6, 6], "left": [2, 2, 1], "lost": 0}


def test_limit(seen: Any) -> None:
    """Five processes that claim concurrently get exactly the limit, and each gets a part."""
    counted = seen["limits"]

    assert counted["admitted"] == 1_000
    assert 0 < counted["own"] < 1_000


def test_fork_in_an_event_loop(seen: Any) -> None:
    """A child that closes its inherited selector does not close the parent's connection."""
    assert seen["loops"] == {"held": 2, "in_time": True}
