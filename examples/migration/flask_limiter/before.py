"""An API limited by Flask-Limiter. Run it with ``gunicorn examples.migration.flask_limiter.before:app``."""

import os

from flask import Blueprint, Flask, Response, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

CODE = "4711"


def caller() -> str:
    """Count by API key, else by address."""
    return request.headers.get("X-API-Key") or get_remote_address()


def rows() -> int:
    """An export costs one token for each row."""
    return request.args.get("rows", 1, int)


def is_wrong(response: Response) -> bool:
    """Count only codes that were wrong."""
    return response.status_code == 401


def is_shut(response: Response) -> bool:
    """Count only codes that were wrong, which have a 200 too. It is called with each 429 as well."""
    return response.status_code == 200 and not response.get_json()["open"]


def has_key() -> bool:
    """Whether the caller has an API key."""
    return "X-API-Key" in request.headers


app = Flask(__name__)
limiter = Limiter(
    caller,
    app=app,
    application_limits=["30/minute"],
    default_limits=["10/minute"],
    headers_enabled=True,
    storage_uri=os.environ.get("LIMITS_URL", "memory://"),
)
market = limiter.shared_limit("4/minute", scope="market")
teams = Blueprint("teams", __name__, url_prefix="/teams")
orders = Blueprint("orders", __name__, url_prefix="/orders")
limiter.limit("3/minute")(orders)


@app.errorhandler(429)
def slow_down(_: Exception) -> ResponseReturnValue:
    """Answer refused requests with our own body."""
    return {"error": "slow_down"}, 429


@app.get("/health")
@limiter.exempt
def health() -> ResponseReturnValue:
    """Not limited."""
    return {"status": "ok"}


@app.get("/notes")
def list_notes() -> ResponseReturnValue:
    """Limited by the defaults, as the three views below."""
    return ["buy milk"]


@app.post("/notes")
def add_note() -> ResponseReturnValue:
    """Add a note."""
    return {"status": "added"}


@app.get("/notes/<int:number>")
def show_note(number: int) -> ResponseReturnValue:
    """Show one note."""
    return {"number": number}


@teams.get("/members")
def members() -> ResponseReturnValue:
    """List the members of a team."""
    return ["ann", "ben"]


@orders.get("/open")
def open_orders() -> ResponseReturnValue:
    """Limited by the blueprint, each view by itself."""
    return [1]


@orders.get("/paid")
def paid_orders() -> ResponseReturnValue:
    """Limited by the blueprint, each view by itself."""
    return [2]


@app.get("/search")
@limiter.limit("5/minute")
def search() -> ResponseReturnValue:
    """Limited per view."""
    return {"found": []}


@app.get("/quotes")
@limiter.limit("8/hour;2/minute")
def quotes() -> ResponseReturnValue:
    """Limited twice."""
    return [1, 2]


@app.post("/login")
@limiter.limit("3/minute", key_func=get_remote_address)
def login() -> ResponseReturnValue:
    """Limited by address, with and without an API key."""
    return {"welcome": "back"}


@app.post("/unlock")
@limiter.limit("3/minute", key_func=get_remote_address, deduct_when=is_wrong)
def unlock() -> ResponseReturnValue:
    """Limited to three wrong codes."""
    return ({"door": "open"}, 200) if is_code(request.args["code"]) else ({"door": "shut"}, 401)


@app.post("/safe")
@limiter.limit("3/minute", key_func=get_remote_address, deduct_when=is_shut)
def safe() -> ResponseReturnValue:
    """Limited to three wrong codes, without a status of its own for them."""
    return {"open": is_code(request.args["code"])}


@app.route("/drafts", methods=["GET", "POST"])
@limiter.limit("5/minute", methods=["POST"])
def drafts() -> ResponseReturnValue:
    """Limited for POST."""
    return ["dear ann"]


@app.get("/feed")
@limiter.limit("5/minute", exempt_when=has_key)
def feed() -> ResponseReturnValue:
    """Limited for callers without a key."""
    return ["news"]


@app.get("/archive")
@limiter.limit("3/month")
def archive() -> ResponseReturnValue:
    """Limited by the month."""
    return ["old news"]


@app.post("/invite")
def invite() -> ResponseReturnValue:
    """Limited where it sends the mail."""
    with limiter.limit("2/minute"):
        return {"status": "sent"}


@app.get("/export")
@limiter.limit("10/minute", cost=rows)
def export() -> ResponseReturnValue:
    """Limited by the number of rows."""
    return {"rows": rows()}


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
