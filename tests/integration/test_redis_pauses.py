"""A process that is paused for longer than its calls may take, by a debugger, a freezer or a suspended host."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.redis_paused import THREADS, TIMEOUT_MS
from tests.redis_servers import RedisServer

#: Longer than any thread waits for a call.
PAUSE_S = 8 * TIMEOUT_MS / 1000
PAUSES = 2


def test_pause(redis_server: RedisServer) -> None:
    """Threads that wake up late use the responses that have arrived: none fails and none hangs."""
    command = [sys.executable, "-m", "tests.integration.redis_paused", redis_server.socket_url]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(PAUSES):
            # Wait for claims, not for time: a busy machine decides few in a tenth of a second.
            assert [process.stdout.readline() for _ in range(2)] == [b"decided\n"] * 2
            process.send_signal(signal.SIGSTOP)
            time.sleep(PAUSE_S)
            process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=30)

    held, unavailable, slowest_ms, others = said.decode().splitlines()[-1].split(maxsplit=3)
    assert process.returncode == 0
    assert others.strip() == "{}"
    assert held == "1"
    # Claims were in flight during a pause, and took as long.
    assert int(slowest_ms) >= 1000 * PAUSE_S
    assert int(unavailable) <= PAUSES * THREADS
