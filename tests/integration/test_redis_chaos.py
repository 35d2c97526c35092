"""Never over: however many processes ask at once, and however they end."""

import os
import subprocess
import sys
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest
from tests.integration.redis_chaos import SLOTS, TOKENS, TTL_MS, WORKERS
from tests.redis_servers import RedisServer
from tests.servers.harness import eventually

from awx_ratelimit import Limiter
from awx_ratelimit.backends.redis import RedisBackend
from awx_ratelimit.testing.envelope import envelope_excess

SECONDS = float(os.environ.get("AWX_CHAOS_SECONDS", "4"))


def told(folder: Path) -> list[tuple[str, list[str]]]:
    """Every whole line that was written, with the process that wrote it."""
    return [
        (log.stem, line.split())
        for log in folder.iterdir()
        for line in log.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def most_at_once(lines: list[tuple[str, list[str]]]) -> int:
    """How many slots were held at once, at most, by processes that lived."""
    killed_ns = {words[1]: int(words[2]) for _, words in lines if words[0] == "killed"}
    began = {words[1]: (pid, int(words[2])) for pid, words in lines if words[0] == "from"}
    ended = {words[1]: int(words[2]) for _, words in lines if words[0] == "to"}
    changes = []
    for lease, (pid, from_ns) in began.items():
        changes += [(from_ns, 1), (max(from_ns, ended.get(lease) or killed_ns[pid]), -1)]
    # What ends at the moment at which another begins was not held with it.
    return max(accumulate(change for _, change in sorted(changes)))


@pytest.mark.timeout(SECONDS + 60)
def test_processes_that_are_killed_never_get_more_than_there_is(redis_server: RedisServer, tmp_path: Path) -> None:
    """Tokens stay within the envelope of any interval, slots within their number, and those of the dead come back."""
    command = [sys.executable, "-m", "tests.integration.redis_chaos", redis_server.socket_url, str(SECONDS)]
    root = Path(__file__).parents[2]
    ended = subprocess.run([*command, str(tmp_path)], cwd=root, timeout=SECONDS + 30, capture_output=True, check=False)
    over_s = time.monotonic()
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    left = eventually(lambda: limiter.peek("slots", SLOTS).held, 0)
    back_s = time.monotonic() - over_s
    limiter.close()

    lines = told(tmp_path)
    counts = Counter(words[0] for _, words in lines)
    admitted = sorted((int(words[1]), int(words[2])) for _, words in lines if words[0] == "token")
    rate = TOKENS.rates[0]
    excess = envelope_excess(admitted, burst=rate.burst, tokens=rate.tokens, period_ms=rate.period_ms)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (excess <= 0, 2 < most_at_once(lines) <= SLOTS.slots, left, back_s < TTL_MS / 1000 + 0.2) == (
        True,
        True,
        0,
        True,
    )
    # It was a fight: nobody had it alone, both limits refused as well, and the dead died in it.
    granted = {pid for pid, words in lines if words[0] == "token"} & {pid for pid, words in lines if words[0] == "from"}
    assert (len(granted) > WORKERS, min(counts[word] for word in ("none", "full")) > 100, counts["killed"] > 4) == (
        True, True, True,
    )  # fmt: skip
