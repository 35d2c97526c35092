"""The wallet API in Flask, for any WSGI server. One middleware limits all its blueprints.

Run it with ``gunicorn --threads 8 examples.flask_app:app`` and call it with
``curl -i -H 'X-API-Key: awx_demo_starter' http://127.0.0.1:8000/v1/agents``. The limits live in the process, so it
has one worker: a second one would have separate limits.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from flask import Blueprint, Flask, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from awx_ratelimit import Rule
from awx_ratelimit.adapters.flask import RateLimit

PLANS = Path(__file__).with_name("plans.toml")
#: Published, so only for demonstrations. A real key is a secret: read it from the environment.
DEMO_KEYS = {"awx_demo_starter": "starter", "awx_demo_growth": "growth", "awx_demo_enterprise": "enterprise"}
RULES = (Rule("/health", exempt=True), Rule("/v1/transfers", methods=["POST"], cost=5))
AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")

AGENTS: dict[str, dict[str, Any]] = {
    "agent_atlas": {"id": "agent_atlas", "name": "Invoice payer", "chain": "base", "balance": Decimal("1250.00")},
    "agent_birch": {"id": "agent_birch", "name": "Ad buyer", "chain": "solana", "balance": Decimal("480.50")},
    "agent_cedar": {"id": "agent_cedar", "name": "Data buyer", "chain": "ethereum", "balance": Decimal("75.25")},
}
_transfer_numbers = count(1)
_balances = Lock()

v1 = Blueprint("v1", __name__, url_prefix="/v1")


@v1.get("/agents")
def agents() -> ResponseReturnValue:
    """List all agents."""
    return jsonify(data=[_shown(agent) for agent in AGENTS.values()])


@v1.get("/agents/<name>")
def agent(name: str) -> ResponseReturnValue:
    """Show one agent, or 404."""
    return jsonify(_shown(_agent(name)))


@v1.post("/transfers")
def transfer() -> ResponseReturnValue:
    """Move money out of an agent's wallet: ``{"agent": "agent_atlas", "to": "0x51c0", "amount": "2.50"}``."""
    sender, to, amount = _order(request.get_json(force=True, silent=True))
    with _balances:
        if amount > sender["balance"]:
            abort(409, "The wallet does not hold this amount.")
        sender["balance"] -= amount
    number = next(_transfer_numbers)
    return {"id": f"tr_{number:06}", "agent": sender["id"], "to": to, "amount": f"{amount:.2f}", "status": "sent"}, 201


@v1.get("/reports/stream")
def report() -> ResponseReturnValue:
    """Stream a statement line by line: `chunks` lines (1 to 200) with `pause_ms` (0 to 1000) between them."""
    chunks = _number("chunks", minimum=1, maximum=200, default=10)
    pause_ms = _number("pause_ms", minimum=0, maximum=1000, default=200)
    return Response(_statement(chunks, pause_ms), mimetype="text/csv")


def health() -> ResponseReturnValue:
    """Exempt from every limit, so that a load balancer needs no key."""
    return {"status": "ok"}


def create_app(keys: Mapping[str, str] | None = None) -> Flask:
    """Create the app with `keys`, from a key to its plan; by default with WALLET_API_KEYS, else the demo's keys."""
    app = Flask(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the provider that every new app has
    app.register_blueprint(v1)
    app.add_url_rule("/health", view_func=health)
    app.register_error_handler(HTTPException, _error)
    RateLimit(app, keys=keys or _environment_keys() or DEMO_KEYS, plans=PLANS, rules=RULES)
    return app


def _environment_keys() -> dict[str, str]:
    """WALLET_API_KEYS is ``key=plan,key=plan``."""
    pairs = (pair.rpartition("=") for pair in os.environ.get("WALLET_API_KEYS", "").split(",") if pair)
    return {key: plan for key, _, plan in pairs}


def _shown(agent: Mapping[str, Any]) -> dict[str, Any]:
    return {**agent, "balance": f"{agent['balance']:.2f}", "currency": "USDC"}


def _agent(name: object) -> dict[str, Any]:
    if not isinstance(name, str) or name not in AGENTS:
        abort(404, "There is no such agent.")
    return AGENTS[name]


def _order(sent: Any) -> tuple[dict[str, Any], str, Decimal]:
    if not isinstance(sent, dict):
        abort(400, "The body must be a JSON object.")
    to, text = sent.get("to"), sent.get("amount")
    if not isinstance(to, str) or not to.startswith("0x"):
        abort(400, "'to' must be an address that begins with 0x.")
    if not isinstance(text, str) or not AMOUNT.fullmatch(text) or not Decimal(text):
        abort(400, "'amount' must be a text such as '2.50', above zero.")
    return _agent(sent.get("agent")), to, Decimal(text)


def _number(name: str, *, minimum: int, maximum: int, default: int) -> int:
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and minimum <= int(text) <= maximum):
        abort(400, f"'{name}' must be a whole number from {minimum} to {maximum}.")
    return int(text)


def _statement(chunks: int, pause_ms: int) -> Iterator[str]:
    yield "line,agent,amount\n"
    ids = list(AGENTS)
    for line in range(1, chunks + 1):
        time.sleep(pause_ms / 1000)
        yield f"{line},{ids[line % len(ids)]},{line * 7 % 90}.25\n"


def _error(error: HTTPException) -> ResponseReturnValue:
    codes = {404: ("not_found", "not_found_error"), 409: ("insufficient_funds", "invalid_request_error")}
    code, kind = codes.get(error.code or 500, ("invalid_request", "invalid_request_error"))
    reply = jsonify(code=code, type=kind, message=error.description)
    reply.status_code = error.code or 500
    for name, value in error.get_headers():
        if name != "Content-Type":
            reply.headers[name] = value
    return reply


app = create_app()
