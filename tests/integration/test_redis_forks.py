"""A process that has used the backend forks: the child starts anew, and the parent does not notice."""

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
    """What the processes of `redis_forked` have seen."""
    with shared_redis.client() as client:
        client.flushall()
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.integration.redis_forked"]
    root = Path(__file__).parents[2]
    answer = subprocess.run(
        [*command, shared_redis.socket_url, request.param], cwd=root, capture_output=True, timeout=50, check=False
    )
    assert answer.returncode == 0, answer.stderr.decode()
    return json.loads(answer.stdout)


def test_a_child_has_leases_of_its_own(seen: Any) -> None:
    """It takes what is free, frees and refunds nothing of its parent's, and its own lapse when it has ended."""
    assert seen["leases"] == {"child": [4, 6, 6], "left": [2, 2, 1], "lost": 0}


def test_parent_and_children_share_one_limit(seen: Any) -> None:
    """Five processes that ask at once get exactly what there is, and each gets something."""
    counted = seen["limits"]

    assert counted["admitted"] == 1_000
    assert 0 < counted["own"] < 1_000


def test_a_fork_within_an_event_loop_does_not_hurt_the_parent(seen: Any) -> None:
    """A child has the selector of its parent too: it must not take the parent's connection from it."""
    assert seen["loops"] == {"held": 2, "in_time": True}
