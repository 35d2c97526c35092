"""A FastAPI app with an included router and a mounted app, limited as a whole. Its document shows keys and limits.

    uvicorn --app-dir . examples.fastapi_app:app
    curl -i -H 'X-API-Key: awx_demo_starter' localhost:8000/v1/agents

Then look at http://localhost:8000/docs, which needs no key here.
"""

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend, Plan, PlanTable, RefusalLog, Rule, StaticKeys
from awx_ratelimit.adapters.fastapi import document_limits, limit
from awx_ratelimit.adapters.starlette import RateLimitMiddleware

router = APIRouter(prefix="/v1")


class Login(BaseModel):
    """The body of a login."""

    name: str


@router.get("/agents")
def agents() -> list[str]:
    """List the agents of the caller's account."""
    return ["atlas", "borea"]


@router.get("/search", dependencies=[Depends(limit("30/minute"))])
def search() -> list[str]:
    """A route with its own limit, besides the caller's plan."""
    return ["atlas"]


@router.post("/login")
def login(body: Login) -> dict[str, str]:
    """A path with its own budget: five a minute, in one decision with the caller's plan."""
    return {"welcome": body.name}


reports = FastAPI(title="Reports", openapi_url=None)


@reports.get("/daily")
def daily() -> dict[str, int]:
    """A mounted app is limited as well."""
    return {"transfers": 17}


def create_app(limiter: AsyncLimiter | None = None) -> FastAPI:
    """Create the app, limited by `limiter`; by default a new one in memory."""
    app = FastAPI(title="Agents")
    app.include_router(router)
    app.mount("/reports", reports)
    app.state.gate = gate = AsyncGate(
        limiter or AsyncLimiter(MemoryBackend(), listeners=[RefusalLog()]),
        plans=PlanTable.default(),
        identify=StaticKeys({"awx_demo_starter": "starter", "awx_demo_growth": "growth"}),
        rules=[
            Rule("/docs", exempt=True),
            Rule("/openapi.json", exempt=True),
            Rule("/v1/login", methods=["POST"], budget="login", plan=Plan.of("login", per_minute=5)),
        ],
    )
    document_limits(app, gate)
    app.add_middleware(RateLimitMiddleware, gate=gate)
    return app


app = create_app()
