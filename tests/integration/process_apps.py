"""A WSGI app that is loaded before its server forks, with a limiter at AWX_TEST_BACKEND that was used before."""

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit import Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.open import open_backend

TOKENS, SLOTS = 100, 3
#: The next refill is in the year 2969, so admitted requests can be counted exactly.
TAKE = Plan("take", (Rate("age", TOKENS, 31_536_000_000_000, refill="calendar"),))
KEEP = Plan("keep", (), Concurrency(SLOTS))

limiter = Limiter(open_backend(os.environ["AWX_TEST_BACKEND"]))
# From here on a file or a connection is open. No slot is given back: a thread that is at work when its process forks in
# C may have the interpreter, and no child would ever get it.
limiter.peek("before the fork", KEEP)
kept: list[Decision] = []


def take() -> Decision:
    """Charge a token."""
    return limiter.acquire("taker", TAKE)


def keep() -> Decision:
    """Take a slot, and do not release it."""
    decision = limiter.acquire("keeper", KEEP)
    kept.append(decision)
    return decision


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The decisions of this process, as JSON."""
    said: dict[str, Any] = {"pid": os.getpid()}
    # While one request waits, others go to other workers.
    time.sleep(0.005)
    if environ["PATH_INFO"] in ("/take", "/keep"):
        decision = take() if environ["PATH_INFO"] == "/take" else keep()
        said |= {"allowed": decision.allowed, "lease": decision.lease_id}
    if environ["PATH_INFO"] == "/health":
        said |= limiter.health()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]
