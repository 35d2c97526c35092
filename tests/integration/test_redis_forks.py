"""A process that has used the backend forks: the child starts anew, and the parent does not notice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.redis_servers import RedisServer


def seen(what: str, server: RedisServer) -> Any:
    """What the processes of `redis_forked` have seen."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.integration.redis_forked", what]
    root = Path(__file__).parents[2]
    answer = subprocess.run([*command, server.socket_url], cwd=root, capture_output=True, timeout=50, check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    return json.loads(answer.stdout)


def test_a_child_has_leases_of_its_own(redis_server: RedisServer) -> None:
    """It takes what is free, frees and refunds nothing of its parent's, and its own lapse when it has ended."""
    assert seen("leases", redis_server) == {"child": [4, 6, 6], "left": [2, 2, 1], "lost": 0}


def test_parent_and_children_share_one_limit(redis_server: RedisServer) -> None:
    """Five processes that ask at once get exactly what there is, and each gets something."""
    counted = seen("limits", redis_server)

    assert (counted["admitted"], 0 < counted["own"] < 1_000) == (1_000, True)


def test_a_fork_within_an_event_loop_does_not_hurt_the_parent(redis_server: RedisServer) -> None:
    """A child has the selector of its parent too: it must not take the parent's connection from it."""
    assert seen("loops", redis_server) == {"held": 2, "in_time": True}
