"""The connections of an event loop end with the loop, without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.redis_many_loops import BUDGET, HOWS, LOOPS
from tests.redis_servers import RedisServer, StartRedis
from tests.selection import parameters

ROOT = Path(__file__).parents[2]


def said(url: str, how: str) -> tuple[str, str]:
    """The output and errors of a process in which every warning is an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.integration.redis_many_loops", url, how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    # Debug mode also reports slow callbacks, which only show how busy the machine is.
    complaints = [
        line for line in done.stderr.splitlines() if not re.match(r"Executing <.* took [\d.]+ seconds$", line)
    ]
    return done.stdout.strip(), "\n".join(complaints)


@pytest.mark.parametrize("how", parameters(HOWS.keys(), full=("left open on uvloop", "closed by hand")))
def test_many_loops(how: str, start_redis: StartRedis) -> None:
    """One limiter decides in every loop, and each loop's connections end with it."""
    server = start_redis()

    assert said(f"{server.url}?{BUDGET}", how) == (f"{LOOPS} 0", "")


@pytest.mark.parametrize("how", parameters(["left open", "closed by hand"], full=("closed by hand",)))
def test_tls(how: str, start_redis: StartRedis) -> None:
    """Connections with TLS end with their loop too, although their transports differ."""
    server: RedisServer = start_redis(tls=True)

    assert said(f"{server.url}?{BUDGET}&ssl_ca_certs={server.ca}", how) == (f"{LOOPS} 0", "")
