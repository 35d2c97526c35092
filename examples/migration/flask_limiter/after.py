"""The same API limited by awx_ratelimit. Run it with ``gunicorn examples.migration.flask_limiter.after:app``."""

import os

from flask import Blueprint, Flask, request
from flask.typing import ResponseReturnValue

from awx_ratelimit import Limiter, Plan, Rate, RateLimited, Refusal, Reply, Rule, open_backend, settle
from awx_ratelimit import Request as GateRequest
from awx_ratelimit.adapters.flask import RateLimit, limit

CODE = "4711"


def rows(request: GateRequest) -> int:
    """An export costs one token for each row."""
    text = request.query("rows") or "1"
    return int(text) if text.isascii() and text.isdigit() else 1


def posts(request: GateRequest) -> int:
    """Other methods are free."""
    return 1 if request.method == "POST" else 0


def without_key(request: GateRequest) -> int:
    """Customers, who have a key, are free."""
    decision = request.source.get("awx_ratelimit.decision")
    return 0 if decision is not None and decision.plan.name == "customer" else 1


def slow_down(_: GateRequest, __: Refusal) -> Reply:
    """Answer refused requests with our own body; the headers are kept."""
    return Reply.json({"error": "slow_down"}, status=429)


backend = open_backend(os.environ.get("LIMITS_URL", "memory://"))
invitations = Limiter(backend)  # for functions that views call
app = Flask(__name__)
RateLimit(
    app,
    keys={"awx_example_key": "customer"},
    plans=[Plan.of("customer", per_minute=30)],
    anonymous=Plan.of("visitor", per_minute=30),  # by address
    rules=[Rule("/health", exempt=True)],
    backend=backend,
    headers="both",
    on_refused=slow_down,
)
default = limit("10/minute")  # each view has its own bucket
market = limit("4/minute", scope="market")  # one bucket for all its views
wrong_codes = Plan("safe", (Rate("minute", 3, 60_000, measure="wrong"),))
teams = Blueprint("teams", __name__, url_prefix="/teams")
orders = Blueprint("orders", __name__, url_prefix="/orders")


@app.errorhandler(RateLimited)
def too_many(error: RateLimited) -> ResponseReturnValue:
    """Answer refused calls of limited functions."""
    wait_s = -(-(error.retry_after_ms or 1_000) // 1_000)
    return {"error": "slow_down"}, 429, {"Retry-After": str(wait_s)}


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


@orders.get("/open")
def open_orders() -> ResponseReturnValue:
    """Limited by the loop at the end, each view by itself."""
    return [1]


@orders.get("/paid")
def paid_orders() -> ResponseReturnValue:
    """Limited by the loop at the end, each view by itself."""
    return [2]


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


@app.post("/safe")
@limit(wrong_codes, per="address", cost={"wrong": 1})
def safe() -> ResponseReturnValue:
    """Limited to three wrong codes; a right one is given back."""
    is_right = is_code(request.args["code"])
    if is_right:
        settle(request, wrong=0)
    return {"open": is_right}


@app.route("/drafts", methods=["GET", "POST"])
@limit("5/minute", cost=posts)
def drafts() -> ResponseReturnValue:
    """Limited for POST."""
    return ["dear ann"]


@app.get("/feed")
@limit("5/minute", cost=without_key)
def feed() -> ResponseReturnValue:
    """Limited for callers without a key."""
    return ["news"]


@app.get("/archive")
@limit("3/month")
def archive() -> ResponseReturnValue:
    """Limited by the month of the calendar; "3/30 days" is a token bucket."""
    return ["old news"]


@invitations.limited("2/minute", subject=lambda caller: caller)
def send_invitation(caller: str) -> None:
    """Limited for each caller."""


@app.post("/invite")
def invite() -> ResponseReturnValue:
    """Limited where it sends the mail."""
    send_invitation(request.environ["awx_ratelimit.decision"].subject)
    return {"status": "sent"}


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
app.register_blueprint(orders)
for name, view in list(app.view_functions.items()):
    if name.startswith("orders."):
        app.view_functions[name] = limit("3/minute")(view)
