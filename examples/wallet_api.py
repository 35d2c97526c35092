"""A small wallet API in Starlette, limited by the plan of each API key: per minute, per day, and concurrent.

Run it with ``uvicorn examples.wallet_api:app`` and call it with
``curl -i -H 'X-API-Key: awx_demo_starter' http://127.0.0.1:8000/v1/agents``.
With WALLET_DATABASE its keys are in that store instead. You manage them over HTTP at ``/api/v1/api-keys``, or in the
console at ``/console/``; the operator's is at ``/operator/``.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from examples.wallet_login import Login
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    PlanTable,
    Rule,
    StaticKeys,
    StoredKeys,
    open_async_backend,
)
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.starlette import RateLimitMiddleware, limit
from awx_ratelimit.console import Console, OperatorConsole
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier, UsageHistory
from awx_ratelimit.management import AccessTokens, ManagementApi
from awx_ratelimit.observability.prometheus import PrometheusMetrics, metrics_app

PLANS = Path(__file__).with_name("plans.toml")
#: Published, so only for demonstrations. A real key is a secret: read it from the environment.
DEMO_KEYS = {"awx_demo_starter": "starter", "awx_demo_growth": "growth", "awx_demo_enterprise": "enterprise"}
#: The issuer and the audience of access tokens. WALLET_TOKEN_SECRET holds the secret that signs them.
ISSUER, AUDIENCE = "https://login.example.com", "wallet-api"
RULES = (
    Rule("/health", exempt=True),
    # Only Prometheus should get here: close it to everybody else in your proxy.
    Rule("/metrics/**", exempt=True),
    # It takes access tokens, not keys.
    Rule("/api/v1/**", exempt=True),
    # For people who have logged in.
    Rule("/console/**", exempt=True),
    Rule("/operator/**", exempt=True),
    Rule("/login/{link}", exempt=True),
    Rule("/logout", exempt=True),
    Rule("/v1/transfers", methods=["POST"], cost=5),
)
AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
TICK_SECONDS = 0.2

AGENTS: dict[str, dict[str, Any]] = {
    "agent_atlas": {"id": "agent_atlas", "name": "Invoice payer", "chain": "base", "balance": Decimal("1250.00")},
    "agent_birch": {"id": "agent_birch", "name": "Ad buyer", "chain": "solana", "balance": Decimal("480.50")},
    "agent_cedar": {"id": "agent_cedar", "name": "Data buyer", "chain": "ethereum", "balance": Decimal("75.25")},
}
_transfer_numbers = count(1)


async def health(_: Request) -> Response:
    """Exempt from every limit, so that a load balancer needs no key."""
    return JSONResponse({"status": "ok"})


async def agents(_: Request) -> Response:
    """List all agents."""
    return JSONResponse({"data": [_shown(agent) for agent in AGENTS.values()]})


async def agent(request: Request) -> Response:
    """Show one agent, or 404."""
    return JSONResponse(_shown(_agent(request.path_params["id"])))


async def transfer(request: Request) -> Response:
    """Move money out of an agent's wallet: ``{"agent": "agent_atlas", "to": "0x51c0", "amount": "2.50"}``."""
    sender, to, amount = _order(await _sent(request))
    if amount > sender["balance"]:
        raise HTTPException(409, "The wallet does not hold this amount.")
    sender["balance"] -= amount
    number = next(_transfer_numbers)
    done = {"id": f"tr_{number:06}", "agent": sender["id"], "to": to, "amount": f"{amount:.2f}", "status": "sent"}
    return JSONResponse(done, status_code=201)


@limit("10/minute")
async def quote(_: Request) -> Response:
    """Price a transfer. Each quote costs us a call of a paid service, so this route has its own limit."""
    return JSONResponse({"currency": "USDC", "fee": "0.05"})


async def report(request: Request) -> Response:
    """Stream a statement line by line: `chunks` lines (1 to 200) with `pause_ms` (0 to 1000) between them."""
    chunks = _number(request, "chunks", minimum=1, maximum=200, default=10)
    pause_ms = _number(request, "pause_ms", minimum=0, maximum=1000, default=200)
    return StreamingResponse(_statement(chunks, pause_ms), media_type="text/csv")


async def feed(websocket: WebSocket) -> None:
    """Send balances until the client closes. The connection counts as one of the caller's."""
    await websocket.accept()
    try:
        async with asyncio.TaskGroup() as tasks:
            ticks = tasks.create_task(_tick(websocket))
            # Listen at the same time, so that the slot is free as soon as the client leaves.
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass
            ticks.cancel()
    except* WebSocketDisconnect:
        pass


def create_app(keys: Mapping[str, str] | None = None) -> Starlette:
    """Create the app with `keys`, from a key to its plan.

    Without them it uses the store in WALLET_DATABASE, else WALLET_API_KEYS, else the demo's keys. WALLET_BACKEND is the
    URL of its limits; without it they live in this process.
    """
    metrics = CollectorRegistry()
    backend = open_async_backend(os.environ.get("WALLET_BACKEND", "memory://"))
    database = None if keys else os.environ.get("WALLET_DATABASE")
    store = KeyStore.open(database) if database else None
    history = [UsageHistory(store)] if store else []
    limiter = AsyncLimiter(backend, listeners=[PrometheusMetrics(metrics), *history])
    plans = PlanTable.from_toml(PLANS)
    routes: list[BaseRoute] = [
        Route("/health", health),
        Mount("/metrics", metrics_app(metrics)),
        Route("/v1/agents", agents),
        Route("/v1/agents/{id}", agent),
        Route("/v1/transfers", transfer, methods=["POST"]),
        Route("/v1/quote", quote),
        Route("/v1/reports/stream", report),
        WebSocketRoute("/v1/feed", feed),
    ]
    identify: StaticKeys | StoredKeys = StaticKeys(keys or _environment_keys() or DEMO_KEYS)
    if store:
        identify = StoredKeys(KeyVerifier(store))
    gate = AsyncGate(limiter, plans=plans, identify=identify, rules=RULES)
    if store:
        routes += _settings(store, limiter, plans, gate)
    middleware = [Middleware(RateLimitMiddleware, gate=gate)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _error})


def _settings(store: KeyStore, limiter: AsyncLimiter, plans: PlanTable, gate: AsyncGate) -> list[BaseRoute]:
    """The REST API of the keys in `store`, for access tokens, and the consoles, for people who log in."""
    secret = os.environ["WALLET_TOKEN_SECRET"]
    tokens = AccessTokens(secret, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE)
    service = KeyService(store, check_plan=lambda plan, own: plans.resolve(Caller("check", plan, overrides=own)))
    login = Login(secret, limiter)
    api = ManagementApi(service, tokens, limiter=limiter, plans=plans)
    console = Console(
        service,
        who=login.who,
        secret=secret,
        limiter=limiter,
        plans=plans,
        logout_url="/logout",
        try_path="/v1/agents",
    )
    operators = OperatorConsole(service, who=login.operator, secret=secret, limiter=limiter, plans=plans, gate=gate)
    return [
        Mount("/api/v1", AsgiApp(api)),
        Mount("/console", AsgiApp(console, threads=2)),
        Mount("/operator", AsgiApp(operators, threads=2)),
        *login.routes,
    ]


def _environment_keys() -> dict[str, str]:
    """WALLET_API_KEYS is ``key=plan,key=plan``."""
    pairs = (pair.rpartition("=") for pair in os.environ.get("WALLET_API_KEYS", "").split(",") if pair)
    return {key: plan for key, _, plan in pairs}


def _shown(agent: Mapping[str, Any]) -> dict[str, Any]:
    return {**agent, "balance": f"{agent['balance']:.2f}", "currency": "USDC"}


def _agent(id: object) -> dict[str, Any]:
    if not isinstance(id, str) or id not in AGENTS:
        raise HTTPException(404, "There is no such agent.")
    return AGENTS[id]


async def _sent(request: Request) -> dict[str, Any]:
    try:
        sent = await request.json()
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    return sent


def _order(sent: Mapping[str, Any]) -> tuple[dict[str, Any], str, Decimal]:
    to, text = sent.get("to"), sent.get("amount")
    if not isinstance(to, str) or not to.startswith("0x"):
        raise HTTPException(400, "'to' must be an address that begins with 0x.")
    if not isinstance(text, str) or not AMOUNT.fullmatch(text) or not Decimal(text):
        raise HTTPException(400, "'amount' must be a text such as '2.50', above zero.")
    return _agent(sent.get("agent")), to, Decimal(text)


def _number(request: Request, name: str, *, minimum: int, maximum: int, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and minimum <= int(text) <= maximum):
        raise HTTPException(400, f"'{name}' must be a whole number from {minimum} to {maximum}.")
    return int(text)


async def _statement(chunks: int, pause_ms: int) -> AsyncIterator[str]:
    yield "line,agent,amount\n"
    ids = list(AGENTS)
    for line in range(1, chunks + 1):
        await asyncio.sleep(pause_ms / 1000)
        yield f"{line},{ids[line % len(ids)]},{line * 7 % 90}.25\n"


async def _tick(websocket: WebSocket) -> None:
    while True:
        await websocket.send_json({"balances": {name: _shown(agent)["balance"] for name, agent in AGENTS.items()}})
        await asyncio.sleep(TICK_SECONDS)


async def _error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: ("not_found", "not_found_error"), 409: ("insufficient_funds", "invalid_request_error")}
    code, kind = codes.get(error.status_code, ("invalid_request", "invalid_request_error"))
    body = {"code": code, "type": kind, "message": error.detail}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


app = create_app()
