"""The middleware of every app of the matrix, and the body that its streams send."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from anyio import sleep

from awx_ratelimit import (
    Caller,
    Limiter,
    MemoryBackend,
    Plan,
    RateLimitMiddleware,
    Rule,
    WsgiRateLimitMiddleware,
)

ADMITTED = 3
BURST_KEY = "awx_test_burst"
STREAM_KEY = "awx_test_stream"
#: A stream sends this word while it holds the only slot.
HELD = b"free=0;"
#: A stream ends when a file of this name appears in the test's folder, or after MAX_OPEN_SECONDS.
END = "end"
MAX_OPEN_SECONDS = 15.0
_TICK_SECONDS = 0.02

_BURST = Plan.of("burst", per_day=ADMITTED)
_STREAM = Plan.of("stream", per_day=100_000, concurrent=1)
_BACKEND = MemoryBackend()
_LIMITER = Limiter(_BACKEND)
_ARGUMENTS: Any = {
    "keys": {BURST_KEY: Caller("burster", "burst"), STREAM_KEY: Caller("streamer", "stream")},
    "plans": [_BURST, _STREAM],
    "backend": _BACKEND,
    "rules": [Rule("/health", exempt=True)],
}


def limited(app: Any) -> RateLimitMiddleware:
    """Put an ASGI app behind the middleware."""
    return RateLimitMiddleware(app, **_ARGUMENTS)


def wsgi_limited(app: Any) -> WsgiRateLimitMiddleware:
    """Put a WSGI app behind the middleware."""
    return WsgiRateLimitMiddleware(app, **_ARGUMENTS)


def tick() -> str:
    """Return a piece of a stream: how many slots are free while it is sent."""
    return f"free={_LIMITER.peek('streamer', _STREAM).usages[-1].remaining};\n"


def ticks() -> Iterator[bytes]:
    """Yield the body of a WSGI app's stream."""
    until = time.monotonic() + MAX_OPEN_SECONDS
    while _is_open(until):
        yield tick().encode()
        time.sleep(_TICK_SECONDS)


async def async_ticks() -> AsyncIterator[bytes]:
    """Yield the body of an ASGI app's stream, on asyncio or Trio."""
    until = time.monotonic() + MAX_OPEN_SECONDS
    while _is_open(until):
        yield tick().encode()
        await sleep(_TICK_SECONDS)


def _is_open(until: float) -> bool:
    return time.monotonic() < until and not (Path(os.environ["AWX_TEST_FOLDER"]) / END).exists()
