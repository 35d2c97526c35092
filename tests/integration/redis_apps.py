"""Apps for tests whose limits are in the Redis at AWX_TEST_BACKEND: one key per plan, on ASGI and WSGI."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, Plan, PlanTable, Rate, Rule, StaticKeys
from awx_ratelimit.adapters import starlette, werkzeug
from awx_ratelimit.backends.open import open_async_backend, open_backend

TOKENS = 100
KEY = "awx_test_shared"
#: The next refill is in the year 2969, so admitted requests can be counted exactly.
PLANS = PlanTable([Plan("age", (Rate("age", TOKENS, 31_536_000_000_000, refill="calendar"),))], default="age")
URL = os.environ["AWX_TEST_BACKEND"]
RULES = [Rule("/pid", exempt=True)]


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


def _hello_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


def asgi() -> Any:
    """The app for uvicorn's --factory."""
    gate = AsyncGate(AsyncLimiter(open_async_backend(URL)), plans=PLANS, identify=StaticKeys({KEY: "age"}), rules=RULES)
    return starlette.RateLimitMiddleware(_hello, gate=gate)


def wsgi() -> Any:
    """The app for gunicorn, which calls this function."""
    gate = Gate(Limiter(open_backend(URL)), plans=PLANS, identify=StaticKeys({KEY: "age"}), rules=RULES)
    return werkzeug.RateLimitMiddleware(_hello_wsgi, gate=gate)
