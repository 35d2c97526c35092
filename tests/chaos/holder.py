"""A process that holds one slot and is paused meanwhile: ``python -m tests.chaos.holder URL``.

It says when it has the slot, and how many leases it has lost as soon as it knows of one.
"""

import sys
import time

from awx_ratelimit import Concurrency, Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend

if __name__ == "__main__":
    limiter = Limiter(RedisBackend.from_url(sys.argv[1], timeout_ms=5_000))
    decision = limiter.acquire("s", Plan("one", (), Concurrency(1, ttl_ms=1_000)))
    sys.stdout.write("held\n" if decision else "refused\n")
    sys.stdout.flush()
    until = time.monotonic() + 10
    while not (lost := limiter.health()["lost_leases"]) and time.monotonic() < until:
        time.sleep(0.02)
    sys.stdout.write(f"{lost}\n")
    limiter.close()
