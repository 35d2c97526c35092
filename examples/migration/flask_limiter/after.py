"""The same API limited by awx_ratelimit. Run it with ``gunicorn examples.migration.flask_limiter.after:app``."""

import os

from flask import Blueprint, Flask, request
from flask.typing import ResponseReturnValue

from awx_ratelimit import Plan, Refusal, Reply, Rule
from awx_ratelimit import Request as GateRequest
from awx_ratelimit.adapters.flask import RateLimit, limit

CODE = "4711"


def rows(request: GateRequest) -> int:
    """An export costs one token for each row."""
    text = request.query("rows") or "1"
    return int(text) if text.isascii() and text.isdigit() else 1


def slow_down(_: GateRequest, __: Refusal) -> Reply:
    """Answer refused requests with our own body; the headers are kept."""
    return Reply.json({"error": "slow_down"}, status=429)


app = Flask(__name__)
RateLimit(
    app,
    keys={"awx_example_key": "customer"},
    plans=[Plan.of("customer", per_minute=30)],
    anonymous=Plan.of("visitor", per_minute=30),  # by address
    rules=[Rule("/health", exempt=True)],
    backend=os.environ.get("LIMITS_URL", "memory://"),
    headers="both",
    on_refused=slow_down,
)
default = limit("10/minute")  # each view has its own bucket
market = limit("4/minute", scope="market")  # one bucket for all its views
teams = Blueprint("teams", __name__, url_prefix="/teams")


@app.get("/health")
def health() -> ResponseReturnValue:
    """Not limited."""
    return {"status": "ok"}


@app.get("/notes")
@default
def list_notes() -> ResponseReturnValue:
    """Limited by the defaults, as the three views below."""
    return ["buy milk"]


@app.post("/notes")
@default
def add_note() -> ResponseReturnValue:
    """Add a note."""
    return {"status": "added"}


@app.get("/notes/<int:number>")
@default
def show_note(number: int) -> ResponseReturnValue:
    """Show one note."""
    return {"number": number}


@teams.get("/members")
@default
def members() -> ResponseReturnValue:
    """List the members of a team."""
    return ["ann", "ben"]


@app.get("/search")
@limit("5/minute")
def search() -> ResponseReturnValue:
    """Limited per view."""
    return {"found": []}


@app.get("/quotes")
@limit(Plan.of("quotes", per_hour=8, per_minute=2))
def quotes() -> ResponseReturnValue:
    """Limited twice, in one decision."""
    return [1, 2]


@app.post("/login")
@limit("3/minute", per="address")
def login() -> ResponseReturnValue:
    """Limited by address, with and without an API key."""
    return {"welcome": "back"}


@app.post("/unlock")
@limit("3/minute", per="address", charge_on={401})
def unlock() -> ResponseReturnValue:
    """Limited to three wrong codes."""
    return ({"door": "open"}, 200) if is_code(request.args["code"]) else ({"door": "shut"}, 401)


@app.get("/export")
@limit("10/minute", cost=rows)
def export() -> ResponseReturnValue:
    """Limited by the number of rows."""
    return {"rows": request.args.get("rows", 1, int)}


@app.get("/prices")
@market
def prices() -> ResponseReturnValue:
    """Shares its limit with /rates."""
    return {"milk": 2}


@app.get("/rates")
@market
def rates() -> ResponseReturnValue:
    """Shares its limit with /prices."""
    return {"usd": 1}


def is_code(code: str) -> bool:
    """Whether the code opens the door."""
    return code == CODE


app.register_blueprint(teams)
