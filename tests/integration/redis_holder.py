"""A process that takes slots and keeps them: ``python -m tests.integration.redis_holder URL SUBJECT SLOTS TTL_MS``."""

import sys

from awx_ratelimit import Concurrency, Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend

if __name__ == "__main__":
    url, subject, slots, ttl_ms = sys.argv[1:]
    limiter = Limiter(RedisBackend.from_url(url, timeout_ms=5_000))
    plan = Plan("held", (), Concurrency(100, ttl_ms=int(ttl_ms)))
    kept = [limiter.acquire(subject, plan) for _ in range(int(slots))]
    sys.stdout.write(f"{len(kept)}\n")
    sys.stdout.flush()
    sys.stdin.read()
