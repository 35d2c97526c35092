"""A process that holds one slot while a test pauses it: ``python -m tests.chaos.holder URL``.

It prints `held` when it has the slot, and later the number of leases that it lost.
"""

import sys
import time

from tests.chaos.storm import limiter_at

from awx_ratelimit import Concurrency, Plan

if __name__ == "__main__":
    limiter = limiter_at(sys.argv[1])
    decision = limiter.acquire("s", Plan("one", (), Concurrency(1, ttl_ms=1_000)))
    sys.stdout.write("held\n" if decision else "refused\n")
    sys.stdout.flush()
    until = time.monotonic() + 10
    while not (lost := limiter.health()["lost_leases"]) and time.monotonic() < until:
        time.sleep(0.02)
    sys.stdout.write(f"{lost}\n")
    limiter.close()
