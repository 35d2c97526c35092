"""Bare apps that are limited by address, as docs/deployment.md deploys them: two requests a day for each client."""

import os
from typing import Any

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, Plan, PlanTable
from awx_ratelimit.adapters.starlette import RateLimitMiddleware as AsgiMiddleware
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware as WsgiMiddleware

FIELDS: dict[str, Any] = {
    "plans": PlanTable([Plan.of("keys", per_day=2)]),
    "identify": lambda _: None,
    "anonymous": Plan.of("anonymous", per_day=2),
    "trusted_proxies": os.environ.get("AWX_TRUSTED_PROXIES", "").split(),
}


async def _hello_asgi(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})


def _hello_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


asgi = AsgiMiddleware(_hello_asgi, gate=AsyncGate(AsyncLimiter(MemoryBackend()), **FIELDS))
wsgi = WsgiMiddleware(_hello_wsgi, gate=Gate(Limiter(MemoryBackend()), **FIELDS))
