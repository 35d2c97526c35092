"""A process that claims from many threads and is paused meanwhile: ``python -m tests.integration.redis_paused URL``.

It begins when it has said so, ends when its input does, and says then what its claims raised that is no
BackendUnavailable, how many were decided, and whether the last of all was.
"""

import sys
import threading
from collections import Counter

from awx_ratelimit import BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend

PLAN = Plan.of("paused", per_day=10_000_000, concurrent=1_000)
THREADS = 12


def act() -> None:
    while not over.is_set():
        try:
            limiter.release(limiter.acquire("s", PLAN))
        except BackendUnavailable:
            raised["unavailable"] += 1
        except Exception as error:
            raised[repr(error)] += 1
        else:
            raised["decided"] += 1


if __name__ == "__main__":
    limiter = Limiter(RedisBackend.from_url(sys.argv[1]))
    over, raised = threading.Event(), Counter[str]()
    threads = [threading.Thread(target=act) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    held = limiter.acquire("s", PLAN).held
    sys.stdout.write(f"{held} {raised.pop('decided')} {raised.pop('unavailable', 0)} {dict(raised)}\n")
    limiter.close()
