"""The connections of an event loop end with it: no warning is left, and no connection."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.redis_many_loops import BUDGET, HOWS, LOOPS
from tests.redis_servers import RedisServer, StartRedis

ROOT = Path(__file__).parents[2]


def said(url: str, how: str) -> tuple[str, str]:
    """What a process prints, and its complaints, with every warning an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.integration.redis_many_loops", url, how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    # Debug mode also reports slow callbacks, which show how busy the machine is.
    complaints = [
        line for line in done.stderr.splitlines() if not re.match(r"Executing <.* took [\d.]+ seconds$", line)
    ]
    return done.stdout.strip(), "\n".join(complaints)


@pytest.mark.parametrize("how", HOWS)
def test_one_limiter_in_many_loops_leaves_nothing_behind(how: str, start_redis: StartRedis) -> None:
    """As in tests that have a loop each: claims are admitted in every loop, and its connections end with it."""
    server = start_redis()

    assert said(f"{server.url}?{BUDGET}", how) == (f"{LOOPS} 0", "")


@pytest.mark.parametrize("how", ["left open", "closed by hand"])
def test_connections_with_tls_end_with_their_loop_too(how: str, start_redis: StartRedis) -> None:
    """TLS has transports of its own, which would warn too."""
    server: RedisServer = start_redis(tls=True)

    assert said(f"{server.url}?{BUDGET}&ssl_ca_certs={server.ca}", how) == (f"{LOOPS} 0", "")
