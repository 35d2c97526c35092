"""Eight processes share two limits in one Redis, each in two budgets, while they are killed, paused and restarted.

AWX_CHAOS_SECONDS sets the duration; `make chaos` takes a minute.
"""

import signal
import subprocess
import sys
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest
from tests.chaos.load import SECONDS, add_row
from tests.chaos.storm import SLOTS, TOKENS, TTL_MS, WORKERS, limiter_at
from tests.machine import eventually, slowness, timed
from tests.redis_servers import RedisServer

from awx_ratelimit import Concurrency, Plan
from awx_ratelimit.testing.backend_laws.rate_bound import rate_bound_excess

pytestmark = pytest.mark.timeout(90 + 2 * SECONDS)
ROOT = Path(__file__).parents[2]
_MAX_LONGER_S = 12.0


def logged(folder: Path) -> list[tuple[str, list[str]]]:
    """Every complete line of the logs, with the process that wrote it."""
    return [
        (log.stem, line.split())
        for log in folder.iterdir()
        for line in log.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def max_at_once(lines: list[tuple[str, list[str]]]) -> int:
    """The largest number of slots that living processes held at the same time."""
    killed_ns = {words[1]: int(words[2]) for _, words in lines if words[0] == "killed"}
    began = {words[1]: (pid, int(words[2])) for pid, words in lines if words[0] == "from"}
    ended = {words[1]: int(words[2]) for _, words in lines if words[0] == "to"}
    changes = []
    for lease, (pid, from_ns) in began.items():
        changes += [(from_ns, 1), (max(from_ns, ended.get(lease) or killed_ns[pid]), -1)]
    # A lease that ends at the moment another one begins does not overlap with it: -1 sorts before 1.
    return max(accumulate(change for _, change in sorted(changes)))


def test_killed_and_paused_processes_exceed_no_limit(redis_server: RedisServer, tmp_path: Path) -> None:
    """Tokens stay within the rate bound of every interval, and slots of dead processes are freed within their ttl."""
    weather_storm(redis_server.socket_url, tmp_path, "Redis")


def weather_storm(url: str, tmp_path: Path, server: str) -> None:
    """Run a storm, and check what its processes have logged."""
    # On a busy machine, a process that replaces a killed one needs longer until it gets tokens and slots.
    seconds = SECONDS + min(_MAX_LONGER_S, SECONDS * (slowness() - 1))
    command = [sys.executable, "-m", "tests.chaos.storm", url, str(seconds), str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, timeout=seconds + 40, capture_output=True, check=False)
    with timed() as watch:
        limiter = limiter_at(url)
        left = eventually(
            lambda: [limiter.peek("slots", SLOTS).held, limiter.peek("acme", SLOTS, scope="account").held], [0, 0]
        )
    limiter.close()

    lines = logged(tmp_path)
    counts = Counter(words[0] for _, words in lines)
    admitted = sorted((int(words[1]), int(words[2])) for _, words in lines if words[0] == "token")
    rate = TOKENS.rates[0]
    excess = rate_bound_excess(admitted, burst=rate.burst, tokens=rate.tokens, period_ms=rate.period_ms)
    most = max_at_once(lines)
    add_row(
        f"{WORKERS} processes on {server}, SIGKILL and SIGSTOP of workers",
        f"{counts['killed']} killed and {counts['paused']} paused; {sum(cost for _, cost in admitted):,} tokens in "
        f"{len(admitted):,} claims, the worst interval {excess / rate.period_ms:+.2f} tokens over; "
        f"{most} of {SLOTS.slots} slots at once, all free after {watch.seconds:.2f} s",
        f"0 over; slots free within their ttl, {TTL_MS / 1000:g} s",
    )
    assert ended.returncode == 0
    assert ended.stderr == b""
    assert excess <= 0
    assert 2 < most <= SLOTS.slots
    assert left == [0, 0]
    assert watch.seconds < watch.limit(TTL_MS / 1000 + 0.2)
    # The processes did compete: many got tokens and slots, both limits refused, and some processes were killed.
    granted = {pid for pid, words in lines if words[0] == "token"} & {pid for pid, words in lines if words[0] == "from"}
    assert len(granted) > WORKERS
    assert min(counts[word] for word in ("none", "full")) > 100 / slowness()
    assert min(counts[word] for word in ("killed", "paused")) > 1


def test_process_paused_longer_than_its_lease(redis_server: RedisServer) -> None:
    """After the ttl another process gets its slot, and when it continues it counts a lost lease."""
    outlast_lease(redis_server.socket_url, "Redis")


def outlast_lease(url: str, server: str) -> None:
    """Pause a holder for longer than its lease."""
    plan = Plan("one", (), Concurrency(1, ttl_ms=1_000))
    command = [sys.executable, "-m", "tests.chaos.holder", url]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        limiter = limiter_at(url)
        before = limiter.acquire("s", plan).allowed
        holder.send_signal(signal.SIGSTOP)
        with timed() as watch:
            taken = eventually(lambda: limiter.acquire("s", plan).allowed, expected=True)
        holder.send_signal(signal.SIGCONT)
        lost, _ = holder.communicate(timeout=20)
    limiter.close()

    add_row(
        f"SIGSTOP of a worker on {server} for longer than its ttl",
        f"another process got its slot after {watch.seconds:.2f} s; when it resumed it counted {int(lost)} lost lease",
        "slots free within their ttl, here 1 s; more than `slots` in use until it resumes",
    )
    assert before is False
    assert taken is True
    assert 0.5 < watch.seconds < watch.limit(1.5)
    assert lost.strip() == b"1"
