"""Eight processes on one key of one Redis, killed and started again at random: never over, and every slot comes back.

AWX_CHAOS_SECONDS is for how long: `make chaos` takes a minute.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.chaos.worker import BURST, PER_SECOND, PLAN, SLOTS, SUBJECT, TTL_MS
from tests.processes import guarded, stop
from tests.redis_servers import RedisServer

from awx_ratelimit import Limiter
from awx_ratelimit.backends.redis import RedisBackend

SECONDS = float(os.environ.get("AWX_CHAOS_SECONDS", "5"))
WORKERS = 8
NS = 1_000_000_000

pytestmark = pytest.mark.timeout(60 + 2 * SECONDS)


class Worker(NamedTuple):
    """A process, what ends it with the tests, and what it wrote."""

    process: "subprocess.Popen[bytes]"
    guard: "subprocess.Popen[bytes]"
    log: Path


class Grant(NamedTuple):
    """What one claim was granted: somewhere between two times, and held until a third at least."""

    before_ns: int
    after_ns: int
    held_until_ns: int


def _start(url: str, log: Path) -> Worker:
    command = [sys.executable, "-m", "tests.chaos.worker", url, str(log)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    return Worker(process, guarded(process), log)


def _kill(worker: Worker) -> int:
    """Kill it, and say when it was surely alive for the last time."""
    alive_ns = time.monotonic_ns()
    worker.process.send_signal(signal.SIGKILL)
    stop(worker.process, worker.guard)
    return alive_ns


@contextmanager
def _storm(url: str, folder: Path) -> Iterator[list[tuple[Worker, int]]]:
    """Workers that were killed, each with the time until which it lived, after the storm is over."""
    logs = (folder / f"{number}.log" for number in range(100_000))
    workers = [_start(url, next(logs)) for _ in range(WORKERS)]
    killed: list[tuple[Worker, int]] = []
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            time.sleep(random.uniform(0.1, 0.6))
            victim = workers.pop(random.randrange(len(workers)))
            killed.append((victim, _kill(victim)))
            workers.append(_start(url, next(logs)))
    finally:
        killed += [(worker, _kill(worker)) for worker in workers]
    yield killed


def _grants(worker: Worker, lived_until_ns: int) -> list[Grant]:
    """A grant that was not released was held for as long as its process lived."""
    grants: list[Grant] = []
    for line in worker.log.read_text().splitlines() if worker.log.exists() else ():
        word, *times = line.split()
        if word == "granted":
            before_ns, after_ns = map(int, times)
            grants.append(Grant(before_ns, after_ns, max(after_ns, lived_until_ns)))
        elif word == "releases":
            grants[-1] = grants[-1]._replace(held_until_ns=int(times[0]))
    return grants


def _most_over(grants: list[Grant]) -> float:
    """By how many tokens the worst interval passes what the rate allows; not above 0 where nothing leaked."""
    starts = sorted(grant.before_ns for grant in grants)
    by_end = sorted(grants, key=lambda grant: grant.after_ns)
    worst = 0.0
    # How far the intervals that begin with each grant are filled, as the ends go by.
    for start_ns in starts:
        inside = 0
        for grant in by_end:
            if grant.before_ns >= start_ns:
                inside += 1
                worst = max(worst, inside - BURST - PER_SECOND * (grant.after_ns - start_ns) / NS)
    return worst


def _most_at_once(grants: list[Grant]) -> int:
    """The most slots that live processes surely held at one moment."""
    turns = sorted([(g.after_ns, 1) for g in grants] + [(g.held_until_ns, -1) for g in grants])
    most = now = 0
    for _, turn in turns:
        now += turn
        most = max(most, now)
    return most


def test_no_token_and_no_slot_too_many_however_processes_die(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over no interval a token above the rate, at no moment a slot above the plan, and all are back within the ttl."""
    with _storm(redis_server.socket_url, tmp_path) as killed:
        ended = time.monotonic()
    limiter = Limiter(RedisBackend.from_url(redis_server.socket_url, timeout_ms=5_000))
    while (free := limiter.peek(SUBJECT, PLAN).usages[-1].remaining) < SLOTS and time.monotonic() < ended + 10:
        time.sleep(0.02)
    back_s = time.monotonic() - ended
    limiter.close()

    grants = [grant for worker, until_ns in killed for grant in _grants(worker, until_ns)]
    refused = sum(worker.log.read_text().count("refused") for worker, _ in killed if worker.log.exists())
    over, at_once = _most_over(grants), _most_at_once(grants)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{SECONDS:.0f} s, {len(killed)} processes killed, {len(grants)} claims granted, {refused} refused: "
            f"worst interval {over:+.2f} tokens, {at_once} of {SLOTS} slots at once, all back after {back_s:.2f} s\n"
        )
    # The server counts in whole milliseconds, and these clocks are another.
    assert (over < PER_SECOND * 0.005, at_once <= SLOTS, free, back_s < TTL_MS / 1000 + 0.5) == (
        True,
        True,
        SLOTS,
        True,
    )
    # There was contention, and it was cut off in the middle.
    assert (refused > 50, len(killed) > WORKERS + SECONDS / 2, len(grants) > SECONDS * PER_SECOND / 4) == (True,) * 3
