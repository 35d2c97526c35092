"""The same API limited by awx_ratelimit. Run it with ``uvicorn examples.migration.slowapi.after:app``."""

import os

from fastapi import APIRouter, Depends, FastAPI

from awx_ratelimit import Plan, RateLimitMiddleware, Refusal, Reply, Rule
from awx_ratelimit import Request as GateRequest
from awx_ratelimit.adapters.fastapi import limit


def rows(request: GateRequest) -> int:
    """An export costs one token for each row."""
    text = request.query("rows") or "1"
    return int(text) if text.isascii() and text.isdigit() else 1


def posts(request: GateRequest) -> int:
    """Other methods are free."""
    return 1 if request.method == "POST" else 0


def without_key(request: GateRequest) -> int:
    """Customers, who have a key, are free."""
    decision = request.source["state"].get("rate_limit")
    return 0 if decision is not None and decision.plan.name == "customer" else 1


def slow_down(_: GateRequest, __: Refusal) -> Reply:
    """Answer refused requests with our own body; the headers are kept."""
    return Reply.json({"error": "slow_down"}, status=429)


app = FastAPI()
app.add_middleware(
    RateLimitMiddleware,
    keys={"awx_example_key": "customer"},
    plans=[Plan.of("customer", per_minute=30)],
    anonymous=Plan.of("visitor", per_minute=30),  # by address
    rules=[Rule("/health", exempt=True)],
    backend=os.environ.get("LIMITS_URL", "memory://"),
    headers="both",
    on_refused=slow_down,
)
default = Depends(limit("10/minute"))
market = Depends(limit("4/minute", scope="market"))
notes = APIRouter(prefix="/notes", dependencies=[default])
teams = APIRouter(prefix="/teams", dependencies=[default])
admin = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    """Not limited."""
    return {"status": "ok"}


@notes.get("")
async def list_notes() -> list[str]:
    """Limited by the defaults, as the three routes below."""
    return ["buy milk"]


@notes.post("")
async def add_note() -> dict[str, str]:
    """Add a note."""
    return {"status": "added"}


@notes.get("/{number}")
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


@app.get("/search", dependencies=[Depends(limit("5/minute"))])
async def search() -> dict[str, list[str]]:
    """Limited per route."""
    return {"found": []}


@app.get("/quotes", dependencies=[Depends(limit(Plan.of("quotes", per_hour=8, per_minute=2)))])
async def quotes() -> list[int]:
    """Limited twice, in one decision."""
    return [1, 2]


@app.post("/login", dependencies=[Depends(limit("3/minute", per="address"))])
async def login() -> dict[str, str]:
    """Limited by address, with and without an API key."""
    return {"welcome": "back"}


@app.api_route("/drafts", methods=["GET", "POST"], dependencies=[Depends(limit("5/minute", cost=posts))])
async def drafts() -> list[str]:
    """Limited for POST."""
    return ["dear ann"]


@app.get("/feed", dependencies=[Depends(limit("5/minute", cost=without_key))])
async def feed() -> list[str]:
    """Limited for callers without a key."""
    return ["news"]


@app.get("/archive", dependencies=[Depends(limit("3/month"))])
async def archive() -> list[str]:
    """Limited by the month of the calendar; "3/30 days" is a token bucket."""
    return ["old news"]


@app.get("/export", dependencies=[Depends(limit("10/minute", cost=rows))])
async def export(rows: int = 1) -> dict[str, int]:
    """Limited by the number of rows."""
    return {"rows": rows}


@app.get("/prices", dependencies=[market])
async def prices() -> dict[str, int]:
    """Shares its limit with /rates."""
    return {"milk": 2}


@app.get("/rates", dependencies=[market])
async def rates() -> dict[str, int]:
    """Shares its limit with /prices."""
    return {"usd": 1}


app.include_router(notes)
app.include_router(teams)
app.mount("/admin", admin)
