"""A worker of the chaos tests: claims, holds and releases one subject until it is killed, and writes down what it got.

Run as ``python -m tests.chaos.worker URL FILE``. Each line of FILE is written in one step, so that a kill leaves whole
lines: ``granted BEFORE AFTER``, ``releases AT`` and ``refused AT``, in nanoseconds of the machine's steady clock.
"""

import os
import random
import sys
import time

from awx_ratelimit import Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.redis import RedisBackend

TTL_MS = 2_000
SLOTS = 3
BURST = 20
PER_SECOND = 40
PLAN = Plan("chaos", (Rate("second", PER_SECOND, 1_000, burst=BURST),), Concurrency(SLOTS, TTL_MS))
SUBJECT = "everybody"


def main(url: str, path: str) -> None:
    """Until killed."""
    limiter = Limiter(RedisBackend.from_url(url, timeout_ms=5_000))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        before_ns = time.monotonic_ns()
        decision = limiter.acquire(SUBJECT, PLAN)
        after_ns = time.monotonic_ns()
        if decision.allowed:
            os.write(log, b"granted %d %d\n" % (before_ns, after_ns))
            time.sleep(random.uniform(0, 0.02))
            os.write(log, b"releases %d\n" % time.monotonic_ns())
            limiter.release(decision)
        else:
            os.write(log, b"refused %d\n" % after_ns)
            time.sleep(random.uniform(0, 0.005))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
