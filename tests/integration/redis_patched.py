"""Claims of greenlets over TLS in a process that gevent patches late.

``python -m tests.integration.redis_patched URL`` prints the number of admitted claims.
"""

import sys

from awx_ratelimit import Limiter, Plan
from awx_ratelimit.backends.redis import RedisBackend

CLAIMS = 20
PLAN = Plan.of("patched", per_day=1_000)

if __name__ == "__main__":
    limiter = Limiter(RedisBackend.from_url(sys.argv[1], timeout_ms=5_000))
    import gevent.monkey

    gevent.monkey.patch_all()
    with gevent.Timeout(20):
        claims = [gevent.spawn(limiter.acquire, "s", PLAN) for _ in range(CLAIMS)]
        gevent.joinall(claims, raise_error=True)
    sys.stdout.write(str(sum(bool(claim.value and claim.value.allowed) for claim in claims)))
    limiter.close()
