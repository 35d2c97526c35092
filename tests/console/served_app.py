"""An app with a gate and the console, in a process of its own, for the test with open pages."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.browser.site import who

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, Plan, PlanTable, Rule, StoredKeys
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.console import Console
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier

STORE = KeyStore.open(Path(os.environ["AWX_TEST_FOLDER"]) / "keys.db")
PLANS = PlanTable([Plan.of("starter", per_minute=1_000_000, per_day=10_000_000, concurrent=5)], default="starter")
LIMITER = AsyncLimiter(MemoryBackend())
CONSOLE = Console(KeyService(STORE), who=who, secret="s" * 32, limiter=LIMITER, plans=PLANS)
RULES = (Rule("/console/**", exempt=True), Rule("/health", exempt=True))
GATE = AsyncGate(LIMITER, plans=PLANS, identify=StoredKeys(KeyVerifier(STORE)), rules=RULES)


async def plain(_: Request) -> Response:
    return PlainTextResponse("ok")


app = Starlette(
    routes=[Route("/health", plain), Route("/v1/agents", plain), Mount("/console", AsgiApp(CONSOLE, threads=2))],
    middleware=[Middleware(RateLimitMiddleware, gate=GATE)],
)
