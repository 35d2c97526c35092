"""Worker processes that share two limits, each in two budgets, while they are killed and paused.

Run it as ``python -m tests.chaos.storm URL SECONDS FOLDER``. Each worker logs to its own file, one line per write, so
that a line is written whole or not at all: ``token AT_MS COST`` for granted tokens, ``from LEASE AT_NS`` and
``to LEASE AT_NS`` around a held slot, ``none`` and ``full`` for refusals. ``killed PID AT_NS`` is logged before the
kill. A pause is shorter than the time that a lease lasts after its renewal. The kills start late: a dead worker keeps
its slots for a ttl, and before that the living ones should hold all slots.
"""

import asyncio
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from awx_ratelimit import AsyncLimiter, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.core.budget import Budget

WORKERS = 8
AT_ONCE = 3
TTL_MS = 1_500
#: Leases are renewed after a third of the ttl. A pause on top of that stays well below the ttl.
PAUSE_S = 0.5
#: A storm exceeds this rate on a busy machine too, and on a database that rolls most calls back and gets them again.
TOKENS = Plan("tokens", (Rate("second", 100, 1_000, burst=40),))
TOKENS_TOO = (Budget("acme", TOKENS, "account"),)
SLOTS = Plan("slots", (), Concurrency(5, ttl_ms=TTL_MS))
#: Every claim asks for two equal budgets, so the log of either one is that of both.
SLOTS_TOO = (Budget("acme", SLOTS, "account"),)


class Log:
    """The log of one worker."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def line(self, *words: object) -> None:
        """Write one line with one system call."""
        self._file.write((" ".join(map(str, words)) + "\n").encode())

    def tokens(self, decision: Decision) -> None:
        self.line("token", decision.decided_at_ms, decision.cost) if decision else self.line("none")

    def slot(self, decision: Decision, word: str) -> None:
        self.line(word, decision.lease_id, time.monotonic_ns()) if decision else self.line("full")


def limiter_at(url: str) -> Limiter:
    """A limiter for threads, without a guard."""
    kind: Any = PostgresBackend if url.startswith("postgresql:") else RedisBackend
    return Limiter(kind.from_url(url, timeout_ms=5_000))


def in_threads(url: str, until_s: float, log: Log, draw: random.Random) -> None:
    limiter = limiter_at(url)

    def act() -> None:
        while time.monotonic() < until_s:
            log.tokens(limiter.acquire("tokens", TOKENS, draw.randint(1, 3), also=TOKENS_TOO))
            with limiter.hold("slots", SLOTS, also=SLOTS_TOO) as decision:
                log.slot(decision, "from")
                time.sleep(draw.random() / 100)
                log.slot(decision, "to")

    threads = [threading.Thread(target=act) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limiter.close()


def in_tasks(url: str, until_s: float, log: Log, draw: random.Random) -> None:

    async def act(limiter: AsyncLimiter) -> None:
        while time.monotonic() < until_s:
            log.tokens(await limiter.acquire("tokens", TOKENS, draw.randint(1, 3), also=TOKENS_TOO))
            async with limiter.hold("slots", SLOTS, also=SLOTS_TOO) as decision:
                log.slot(decision, "from")
                await asyncio.sleep(draw.random() / 100)
                log.slot(decision, "to")

    async def all_of_them() -> None:
        kind: Any = AsyncPostgresBackend if url.startswith("postgresql:") else AsyncRedisBackend
        limiter = AsyncLimiter(kind.from_url(url, timeout_ms=5_000))
        await asyncio.gather(*(act(limiter) for _ in range(AT_ONCE)))
        await limiter.aclose()

    asyncio.run(all_of_them())


def started(number: int, url: str, until_s: float, folder: Path) -> int:
    """Start a worker; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work: Any = in_threads if number % 2 else in_tasks
        work(url, until_s, Log(folder / f"{os.getpid()}.worker"), random.Random(number))
        status = 0
    finally:
        os._exit(status)


def main(url: str, seconds: float, folder: Path) -> int:
    """Run the storm; the number of workers that failed."""
    draw, until_s, numbers = random.Random(1), time.monotonic() + seconds, iter(range(1_000_000))
    pids = [started(next(numbers), url, until_s, folder) for _ in range(WORKERS)]
    log = Log(folder / "killed")
    time.sleep(seconds * 0.4)
    while time.monotonic() < until_s - 0.5:
        _pause(pids[draw.randrange(WORKERS)], PAUSE_S * draw.random(), log)
        victim = pids.pop(draw.randrange(WORKERS))
        log.line("killed", victim, time.monotonic_ns())
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        pids.append(started(next(numbers), url, until_s, folder))
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)


def _pause(pid: int, seconds: float, log: Log) -> None:
    log.line("paused", pid)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
