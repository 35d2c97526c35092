"""Apps whose slots are in the Redis at AWX_TEST_BACKEND: ``/keep`` takes one until the process ends."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Concurrency,
    Decision,
    Gate,
    Limiter,
    Plan,
    PlanTable,
    Rate,
    StaticKeys,
)
from awx_ratelimit.adapters import starlette, werkzeug
from awx_ratelimit.backends.open import open_async_backend, open_backend

#: Longer than a test, so that no slot lapses.
PLAN = Plan("slots", (Rate("minute", 100_000, 60_000),), Concurrency(3, ttl_ms=3_600_000))
PLANS = PlanTable([PLAN], default="slots")
KEYS = StaticKeys({"awx_test_shared": "slots"})
URL = os.environ["AWX_TEST_BACKEND"]
kept: list[Decision] = []


def wsgi() -> Any:
    """The app for servers that call this function."""
    limiter = Limiter(open_backend(URL))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/keep":
            kept.append(limiter.acquire("kept", PLAN))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]

    limited = werkzeug.RateLimitMiddleware(app, gate=Gate(limiter, plans=PLANS, identify=KEYS))
    return lambda environ, start: (app if environ["PATH_INFO"] == "/pid" else limited)(environ, start)


def asgi() -> Any:
    """The same for ASGI: a kept slot is released at the end of the lifespan, in the last moment."""
    limiter = AsyncLimiter(open_async_backend(URL))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        if scope["path"] == "/keep":
            kept.append(await limiter.acquire("kept", PLAN))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for decision in kept:
            await limiter.release(decision)
        await send({"type": "lifespan.shutdown.complete"})

    limited = starlette.RateLimitMiddleware(app, gate=AsyncGate(limiter, plans=PLANS, identify=KEYS))

    async def either(scope: Any, receive: Any, send: Any) -> None:
        await (app if scope.get("path") == "/pid" else limited)(scope, receive, send)

    return either
