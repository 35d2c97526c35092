"""An API limited by slowapi. Run it with ``uvicorn examples.migration.slowapi.before:app``."""

import os

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address


def caller(request: Request) -> str:
    """Count by API key, else by address."""
    return request.headers.get("x-api-key") or get_remote_address(request)


def rows(request: Request) -> int:
    """An export costs one token for each row."""
    return int(request.query_params.get("rows", "1"))


def has_key(request: Request) -> bool:
    """Whether the caller has an API key."""
    return "x-api-key" in request.headers


def slow_down(request: Request, error: RateLimitExceeded) -> Response:
    """Answer refused requests with our own body and slowapi's headers."""
    usual = _rate_limit_exceeded_handler(request, error)
    headers = {name: value for name, value in usual.headers.items() if name.startswith(("x-", "retry-"))}
    return JSONResponse({"error": "slow_down"}, 429, headers)


limiter = Limiter(
    key_func=caller,
    application_limits=["30/minute"],
    default_limits=["10/minute"],
    headers_enabled=True,
    storage_uri=os.environ.get("LIMITS_URL", "memory://"),
)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, slow_down)  # type: ignore[arg-type]  # as slowapi documents it
app.add_middleware(SlowAPIMiddleware)
market = limiter.shared_limit("4/minute", scope="market")
teams = APIRouter(prefix="/teams")
admin = FastAPI()


@app.get("/health")
@limiter.exempt
async def health() -> dict[str, str]:
    """Not limited."""
    return {"status": "ok"}


@app.get("/notes")
async def list_notes() -> list[str]:
    """Limited by the defaults, as the three routes below."""
    return ["buy milk"]


@app.post("/notes")
async def add_note() -> dict[str, str]:
    """Add a note."""
    return {"status": "added"}


@app.get("/notes/{number}")
async def show_note(number: int) -> dict[str, int]:
    """Show one note."""
    return {"number": number}


@teams.get("/members")
async def members() -> list[str]:
    """List the members of a team."""
    return ["ann", "ben"]


@admin.get("/users")
async def users() -> list[str]:
    """Part of an app that is mounted."""
    return ["ann"]


@app.get("/search")
@limiter.limit("5/minute")
async def search(request: Request, response: Response) -> dict[str, list[str]]:
    """Limited per route."""
    return {"found": []}


@app.get("/quotes")
@limiter.limit("8/hour;2/minute")
async def quotes(request: Request, response: Response) -> list[int]:
    """Limited twice."""
    return [1, 2]


@app.post("/login")
@limiter.limit("3/minute", key_func=get_remote_address)
async def login(request: Request, response: Response) -> dict[str, str]:
    """Limited by address, with and without an API key."""
    return {"welcome": "back"}


@app.api_route("/drafts", methods=["GET", "POST"])
@limiter.limit("5/minute", methods=["POST"])
async def drafts(request: Request, response: Response) -> list[str]:
    """Limited for POST."""
    return ["dear ann"]


@app.get("/feed")
@limiter.limit("5/minute", exempt_when=has_key)
async def feed(request: Request, response: Response) -> list[str]:
    """Limited for callers without a key."""
    return ["news"]


@app.get("/archive")
@limiter.limit("3/month")
async def archive(request: Request, response: Response) -> list[str]:
    """Limited by the month."""
    return ["old news"]


@app.get("/export")
@limiter.limit("10/minute", cost=rows)
async def export(request: Request, response: Response) -> dict[str, int]:
    """Limited by the number of rows."""
    return {"rows": rows(request)}


@app.get("/prices")
@market
async def prices(request: Request, response: Response) -> dict[str, int]:
    """Shares its limit with /rates."""
    return {"milk": 2}


@app.get("/rates")
@market
async def rates(request: Request, response: Response) -> dict[str, int]:
    """Shares its limit with /prices."""
    return {"usd": 1}


app.include_router(teams)
app.mount("/admin", admin)
