"""The same API limited by awx_ratelimit. Run it with ``uvicorn examples.migration.fastapi_limiter.after:app``."""

import os

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Plan,
    PlanTable,
    RateLimitMiddleware,
    Refusal,
    Reply,
    Rule,
    StaticKeys,
    open_async_backend,
)
from awx_ratelimit import Request as GateRequest
from awx_ratelimit.adapters.fastapi import limit

CHAT = Plan.of("chat", per_minute=5)


def slow_down(_: GateRequest, __: Refusal) -> Reply:
    """Answer refused requests with the body that clients know; the headers are kept."""
    return Reply.json({"detail": "slow_down"}, status=429)


limiter = AsyncLimiter(open_async_backend(os.environ.get("LIMITS_URL", "memory://")))
gate = AsyncGate(
    limiter,
    plans=PlanTable([Plan.of("customer", per_minute=30)]),
    identify=StaticKeys({"awx_example_key": "customer"}),
    anonymous=Plan.of("visitor", per_minute=30),  # by address
    rules=[Rule("/health", exempt=True)],
    on_refused=slow_down,
)
app = FastAPI()
app.add_middleware(RateLimitMiddleware, gate=gate)
default = Depends(limit("10/minute"))  # each route has its own bucket
market = Depends(limit("4/minute", scope="market"))  # one bucket for all its routes


@app.get("/health")
async def health() -> dict[str, str]:
    """Not limited."""
    return {"status": "ok"}


@app.get("/notes", dependencies=[default])
async def list_notes() -> list[str]:
    """Limited per route, as the routes below."""
    return ["buy milk"]


@app.post("/notes", dependencies=[default])
async def add_note() -> dict[str, str]:
    """Add a note."""
    return {"status": "added"}


@app.get("/notes/{number}", dependencies=[default])
async def show_note(number: int) -> dict[str, int]:
    """Show one note."""
    return {"number": number}


@app.get("/search", dependencies=[Depends(limit("5/minute"))])
async def search() -> dict[str, list[str]]:
    """Search."""
    return {"found": []}


@app.get("/quotes", dependencies=[Depends(limit(Plan.of("quotes", per_minute=2, per_hour=8)))])
async def quotes() -> list[int]:
    """Limited twice, in one decision."""
    return [1, 2]


@app.post("/login", dependencies=[Depends(limit("3/minute", per="address"))])
async def login() -> dict[str, str]:
    """Limited by address, with and without an API key."""
    return {"welcome": "back"}


@app.get("/prices", dependencies=[market])
async def prices() -> dict[str, int]:
    """Shares its limit with /rates."""
    return {"milk": 2}


@app.get("/rates", dependencies=[market])
async def rates() -> dict[str, int]:
    """Shares its limit with /prices."""
    return {"usd": 1}


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Limit the messages of a caller; the middleware has limited the handshake."""
    await websocket.accept()
    caller = websocket.scope["state"]["rate_limit"].subject
    try:
        while await websocket.receive_text():
            message = await limiter.acquire(caller, CHAT, scope="chat")
            await websocket.send_text("hello" if message.allowed else "slow down")
    except WebSocketDisconnect:
        return
