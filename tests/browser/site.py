"""A site with the console on a real server, in a thread of this process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from awx_ratelimit import (
    Budget,
    Concurrency,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Request,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.console import Console, Operator, OperatorConsole, Owner
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.keys import ApiKey, KeyFormat, KeyService, KeyStore
from awx_ratelimit.keys.storage.store import LastUse
from awx_ratelimit.keys.storage.usage import add
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.testing import ManualClock

#: The session cookie of the application, whose value is the account.
SESSION = "session"
#: The session cookie of the operators, whose value is the name of one.
OPERATOR_SESSION = "operator-session"
SECRET = b"a secret of the tests that is long enough"
START_SECONDS = 10.0
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
#: What all keys of an account on the plan "team" share.
TEAM = Plan(
    "team.account",
    (
        Rate("minute", 100, 60_000),
        Rate("month", 1_000_000, period="month", anchor_day=15, timezone="Europe/Berlin"),
        Rate("tokens-day", 90_000, period="day", measure="tokens"),
    ),
    Concurrency(8),
)
PLANS = PlanTable(
    [
        Plan.of("starter", per_minute=60, per_day=10_000, concurrent=5),
        Plan.of("growth", per_minute=300, per_day=100_000, concurrent=25),
        Plan.of("team", per_minute=60, account=TEAM),
    ],
    default="starter",
)
_accounts = count()
_batches = count(1)


def who(request: Request) -> Owner | None:
    """The owner of the account in the session cookie."""
    account = request.cookie(SESSION)
    return Owner(account, f"ann@{account}.example") if account else None


def operator(request: Request) -> Operator | None:
    """The operator in the session cookie."""
    name = request.cookie(OPERATOR_SESSION)
    return Operator(name) if name else None


class Site:
    """The store, the limiter and the clock behind the pages."""

    def __init__(self, store: KeyStore, *, creations: int = 1_000, keys: KeyFormat | None = None) -> None:
        self.clock = ManualClock(time.time_ns() // 1_000_000)
        self.store = store
        self.service = KeyService(store, keys=keys, clock=self.clock)
        self.limiter = Limiter(MemoryBackend(clock=self.clock))
        self.console = Console(
            self.service,
            who=who,
            secret=SECRET,
            limiter=self.limiter,
            plans=PLANS,
            try_path="/v1/agents",
            creations=Plan.of("creations", per_minute=creations),
            clock=self.clock,
        )
        # Operators explain requests of stored keys, so the gate itself has none.
        rules = [Rule("/health", exempt=True), Rule("/v1/transfers", methods=["POST"], cost=5)]
        gate = Gate(self.limiter, plans=PLANS, identify=StaticKeys({"awx_of_nobody": "starter"}), rules=rules)
        self.operator_console = OperatorConsole(
            self.service,
            who=operator,
            secret=SECRET,
            limiter=self.limiter,
            plans=PLANS,
            gate=gate,
            clock=self.clock,
        )
        self.url = ""
        self.held: list[Decision] = []

    def account(self, account: str = "", **fields: Any) -> str:
        """Create an account, with a name that no other test uses."""
        account = account or f"acct-{next(_accounts)}"
        self.service.accounts.create(account, **{"plan": "starter", **fields})
        return account

    def key(self, account: str, name: str, *, days_old: int = 0, used_days_ago: float | None = None) -> ApiKey:
        """Create a key in the past, and mark it as used."""
        now_ms = self.clock.now_ms()
        self.clock.set(now_ms - days_old * DAY_MS)
        key = self.service.create(account, name, actor=f"ann@{account}.example").key
        self.clock.set(now_ms)
        if used_days_ago is not None:
            self.store.mark_used([LastUse(key.id, account, now_ms - int(used_days_ago * DAY_MS))])
        return self.service.get(account, key.id)

    def use(self, key: ApiKey, plan: str = "starter", *, requests: int, open: int = 0) -> list[Decision]:
        """Make requests with the key. The last `open` ones stay in flight and are returned."""
        chosen = next(known for known in PLANS.plans if known.name == plan)
        also = [Budget(key.account_id, chosen.account, "account")] if chosen.account else []
        for _ in range(requests - open):
            self.limiter.release(self.limiter.acquire(key.family_id, chosen, also=also))
        return [self.limiter.acquire(key.family_id, chosen, also=also) for _ in range(open)]

    def plan(self, account: str) -> Plan:
        """The plan of an account, with its overrides."""
        found = self.service.accounts.get(account)
        return PLANS.resolve(Caller(account, found.plan, account, found.overrides))

    def use_account(self, account: str, requests: int) -> None:
        """Use so much of what all keys of the account share."""
        shared = self.plan(account).account
        assert shared is not None, account
        self.limiter.acquire(account, shared, requests, scope="account")

    def record(self, key: ApiKey, hours_ago: int, allowed: int, refused: int = 0, **more: Any) -> None:
        """Add the usage of an hour to the history of a key. `more` are other fields of HourUsage."""
        at_ms = self.clock.now_ms() - hours_ago * HOUR_MS
        begins_ms = at_ms - at_ms % HOUR_MS
        fields = {"costs": {"requests": allowed}, "refusals": {}, "peak": 0, "last_at_ms": begins_ms, **more}
        usage = HourUsage(subject=key.family_id, begins_ms=begins_ms, allowed=allowed, refused=refused, **fields)
        self.store.write(add, "the tests", next(_batches), at_ms, [usage])


async def _plant(request: StarletteRequest) -> PlainTextResponse:
    """Set the cookie in the query for all hosts of the site, as a neighbouring host can."""
    response = PlainTextResponse("planted\n")
    planted = unquote_to_bytes(request.scope["query_string"])
    response.raw_headers.append((b"set-cookie", planted + b"; Domain=.example.localhost; Path=/"))
    return response


async def _other(_: object) -> PlainTextResponse:
    return PlainTextResponse("another page\n")


@contextmanager
def asgi(site: Site) -> Iterator[str]:
    """The console under uvicorn; its address."""
    consoles = [Mount("/console", AsgiApp(site.console)), Mount("/operator", AsgiApp(site.operator_console))]
    routes = [*consoles, Route("/other", _other), Route("/plant", _plant)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Chromium opens more connections than it uses.
        config = uvicorn.Config(Starlette(routes=routes), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until = time.monotonic() + START_SECONDS
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)


@contextmanager
def wsgi(site: Site) -> Iterator[str]:
    """The console under werkzeug's server; its address."""

    def other(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"another page\n"]

    app = DispatcherMiddleware(other, {"/console": WsgiApp(site.console), "/operator": WsgiApp(site.operator_console)})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(START_SECONDS)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A site whose keys are in a file of `folder`, under uvicorn."""
    store = KeyStore.open(folder / "keys.db")
    made = Site(store)
    with asgi(made) as url:
        made.url = url
        yield made
    store.close()
