"""A process that forks, decides on both sides, and ends: ``python -m tests.integration.postgres_exits URL``.

It prints what the child and the parent were allowed, and ends with a slot that it has not released.
"""

import os
import sys

from awx_ratelimit import Limiter, Plan
from awx_ratelimit.backends.postgres import PostgresBackend

PLAN = Plan.of("exits", per_day=100, concurrent=3)

if __name__ == "__main__":
    limiter = Limiter(PostgresBackend.from_url(sys.argv[1], timeout_ms=10_000))
    first = limiter.acquire("s", PLAN)
    child = os.fork()
    mine = limiter.acquire("s", PLAN)
    if child:
        os.waitpid(child, 0)
        # The child has released its slot, and has left this connection alone.
        mine = limiter.acquire("s", PLAN)
    sys.stdout.write(f"{'parent' if child else 'child'} {mine.allowed}\n")
    sys.stdout.flush()
