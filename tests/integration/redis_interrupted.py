"""A process whose main thread is interrupted while it claims: ``python -m tests.integration.redis_interrupted URL``.

It prints the slots in use at the end, and the duration of the slowest claim after the interruptions in ms.
"""

import random
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from awx_ratelimit import BackendUnavailable, Concurrency, Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend

INTERRUPTIONS = 200
SHORT = Plan("short", (), Concurrency(1_000, ttl_ms=1_000))


class Interrupted(Exception):
    """The exception that the signal handler raises."""


def interrupt(*_: Any) -> None:
    if armed:
        raise Interrupted


def claim() -> None:
    with suppress(BackendUnavailable):
        limiter.release(limiter.acquire("s", SHORT))


def claim_on() -> None:
    while not over.is_set():
        claim()


def send_signals() -> None:
    draw = random.Random(1)
    while not over.wait(draw.random() / 500):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def storm() -> None:
    """Claim until enough claims have been interrupted, however long that takes."""
    interrupted = 0
    while interrupted < INTERRUPTIONS:
        try:
            armed.append(True)
            claim()
        except Interrupted:
            interrupted += 1
        finally:
            armed.clear()


def slowest_ms() -> int:
    took_s = []
    for _ in range(50):
        began_s = time.monotonic()
        limiter.release(limiter.acquire("s", SHORT))
        took_s.append(time.monotonic() - began_s)
    return int(max(took_s) * 1_000)


if __name__ == "__main__":
    limiter = Limiter(RedisBackend.from_url(sys.argv[1], timeout_ms=400))
    armed: list[bool] = []
    over = threading.Event()
    signal.signal(signal.SIGUSR1, interrupt)
    threads = [threading.Thread(target=act) for act in (claim_on, claim_on, claim_on, send_signals)]
    for thread in threads:
        thread.start()
    storm()
    over.set()
    for thread in threads:
        thread.join()
    slowest = slowest_ms()
    until_s = time.monotonic() + 4
    while (left := limiter.peek("s", SHORT).held) and time.monotonic() < until_s:
        time.sleep(0.01)
    sys.stdout.write(f"{left} {slowest}\n")
    limiter.close()
