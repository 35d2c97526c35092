"""An app for ``hypercorn --worker-class trio``, with limits at AWX_TEST_BACKEND and keys as AWX_TEST_KEYS says."""

import os
from typing import Any

from awx_ratelimit import AsyncGate, AsyncLimiter, Plan, PlanTable, StaticKeys, StoredKeys
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.backends.open import open_async_backend
from awx_ratelimit.keys import KeyStore, KeyVerifier

KEY = "awx_test_shared"
DAY = 5
PLANS = PlanTable([Plan.of("day", per_day=DAY, concurrent=1)], default="day")


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def _identify() -> Any:
    if os.environ.get("AWX_TEST_KEYS") == "stored":
        return StoredKeys(KeyVerifier(KeyStore.open("sqlite://")))
    return StaticKeys({KEY: "day"})


BACKEND = open_async_backend(os.environ.get("AWX_TEST_BACKEND", "memory://"))
app = RateLimitMiddleware(_hello, gate=AsyncGate(AsyncLimiter(BACKEND), plans=PLANS, identify=_identify()))
