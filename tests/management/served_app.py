"""The app that several processes serve; AWX_TEST_BACKEND says where its limits are.

After a look-up has read, it waits while there is a file ``hold`` and no file ``go`` in the folder.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from tests.servers.stored import AUDIENCE, ISSUER, OPERATORS, SECRET

from awx_ratelimit import AsyncGate, AsyncLimiter, Plan, PlanTable, Rule, StoredKeys
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.starlette import RateLimitMiddleware
from awx_ratelimit.backends.open import open_async_backend
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.management import AccessTokens, ManagementApi, OperatorApi, OperatorTokens

FOLDER = Path(os.environ["AWX_TEST_FOLDER"])
#: `small` and `large` refill so slowly that used tokens can be counted.
DAYS = {"starter": 100_000, "small": 200, "large": 1_000}
PLANS = PlanTable([Plan.of(name, per_minute=100_000, per_day=days) for name, days in DAYS.items()], default="starter")
STORE = KeyStore.open(os.environ["AWX_TEST_DATABASE"])
VERIFIER = KeyVerifier(STORE, budget_ms=10_000)
LIMITER = AsyncLimiter(open_async_backend(os.environ.get("AWX_TEST_BACKEND", "memory://")))
TOKENS = AccessTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE)
MANY = Plan.of("many", per_minute=10_000)
API = ManagementApi(KeyService(STORE), TOKENS, limiter=LIMITER, plans=PLANS, creations=MANY, calls=MANY)
OPERATOR_TOKENS = OperatorTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=OPERATORS)
OPERATOR = OperatorApi(KeyService(STORE), OPERATOR_TOKENS, limiter=LIMITER, plans=PLANS)
RULES = (Rule("/position", exempt=True), Rule("/api/v1/**", exempt=True))
GATE = AsyncGate(LIMITER, plans=PLANS, identify=StoredKeys(VERIFIER, bearer=True), rules=RULES)


@event.listens_for(STORE._engines.reading, "after_cursor_execute")
def _hold(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if "awx_api_keys.key_hash =" in statement and (FOLDER / "hold").exists():
        (FOLDER / "held").touch()
        until = time.monotonic() + 10
        while not (FOLDER / "go").exists() and time.monotonic() < until:
            time.sleep(0.005)


async def plain(request: Request) -> Response:
    await asyncio.sleep(0)
    return JSONResponse({"pid": os.getpid()})


async def position(request: Request) -> Response:
    """The number of the last change that this process has polled."""
    return JSONResponse(VERIFIER._position)


app = Starlette(
    routes=[
        Route("/plain", plain),
        Route("/position", position),
        Mount("/api/v1/operator", AsgiApp(OPERATOR)),
        Mount("/api/v1", AsgiApp(API, threads=32)),
    ],
    middleware=[Middleware(RateLimitMiddleware, gate=GATE)],
)
