"""A process that claims from many threads and is paused meanwhile: ``python -m tests.integration.redis_paused URL``.

It prints a line after every 100 decided claims, and ends with its input. Then it prints the last line: the slots that
its last claim sees in use, the number of failed claims, the duration of the slowest in ms, and other exceptions.
"""

import sys
import threading
import time
from collections import Counter
from itertools import count

from awx_ratelimit import BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend

PLAN = Plan.of("paused", per_day=10_000_000, concurrent=1_000)
THREADS = 12
#: Only a pause takes longer, not a server that waits for a busy processor.
TIMEOUT_MS = 150
_PER_LINE = 100


def act() -> None:
    while not over.is_set():
        begun_s = time.monotonic()
        try:
            limiter.release(limiter.acquire("s", PLAN))
        except BackendUnavailable:
            raised["unavailable"] += 1
        except Exception as error:
            raised[repr(error)] += 1
        else:
            if not next(decided) % _PER_LINE:
                sys.stdout.write("decided\n")
                sys.stdout.flush()
        slowest_s[0] = max(slowest_s[0], time.monotonic() - begun_s)


if __name__ == "__main__":
    limiter = Limiter(RedisBackend.from_url(sys.argv[1], timeout_ms=TIMEOUT_MS))
    slowest_s = [0.0]
    over, raised, decided = threading.Event(), Counter[str](), count(1)
    threads = [threading.Thread(target=act) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    held = limiter.acquire("s", PLAN).held
    unavailable = raised.pop("unavailable", 0)
    sys.stdout.write(f"{held} {unavailable} {slowest_s[0] * 1000:.0f} {dict(raised)}\n")
    limiter.close()
