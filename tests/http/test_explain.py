"""A gate explains what it would do with a request: by its own rules, for its own callers, and without a charge."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import blocks
from tests.http.gate_client import Client

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    BackendUnavailable,
    Caller,
    Concurrency,
    Gate,
    HostBackend,
    KeyRefused,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.wsgi.middleware import Slot
from awx_ratelimit.errors import ImpossibleRequest
from awx_ratelimit.http.explain import explain_path, explainable, request_to
from awx_ratelimit.http.explanation import ExplainedCaller, Explanation
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.route_admission_sync import admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit
from awx_ratelimit.runtime.event_loops import ThreadPool

KEY = "awx_example_key"
ACCOUNT = Plan.of("p.account", per_minute=4)
PLAN = Plan("p", (Rate.parse("6/minute"), replace(Rate.parse("9/day"), shadow=True)), Concurrency(1), account=ACCOUNT)
LOGIN = Plan.of("login", per_minute=3)
RULES = [
    Rule("/health", exempt=True),
    Rule("/login", methods=["POST"], budget="login", plan=LOGIN, per="everyone", charge_on={401}),
    Rule("/v1/reports/**", cost=3, wait_ms=500),
    Rule("/v1/exports", cost=lambda _: 5),
    Rule("/v1/search", cost=lambda request: int(request.query("pages") or "all")),
]


def client(**fields: Any) -> Client:
    callers = {KEY: Caller("key_1", "p", "acme"), "awx_free": Caller("key_2", exempt=True)}
    plans = PlanTable([PLAN], default="p")
    return Client(**{"plans": plans, "identify": StaticKeys(callers), "rules": RULES, **fields})


def explain(used: Client, method: str, path: str, key: str | None = KEY) -> Explanation:
    return used.gate.explain(request_to(used.gate, method, path, {"X-API-Key": key} if key else None))


def test_allowed_request() -> None:
    """Its rule, its caller, its cost, and each limit of each budget as it stands."""
    used = client()
    used.status("/v1/agents", x_api_key=KEY)

    explained = explain(used, "get", "/v1/reports/7?format=csv")

    assert (explained.method, explained.path, explained.outcome) == ("GET", "/v1/reports/7", "allowed")
    assert [rule.path for rule in explained.rules] == ["/v1/reports/**"]
    assert explained.caller == ExplainedCaller("key_1", "p", "acme")
    assert explained.cost == {"requests": 3}
    assert explained.wait_ms == 500
    assert [(budget.scope, budget.subject, budget.plan) for budget in explained.budgets] == [
        (None, "key_1", "p"),
        ("account", "acme", "p.account"),
    ]
    own, shared = explained.budgets
    assert [(limit.limit, limit.counts, limit.remaining, limit.capacity, limit.cost) for limit in own.limits] == [
        ("minute", "requests", 5, 6, 3),
        ("day", "requests", 8, 9, 3),
        ("concurrent", "concurrent-requests", 1, 1, 1),
    ]
    assert [(limit.shadow, limit.refuses) for limit in own.limits] == [(False, False), (True, False), (False, False)]
    assert (shared.limits[0].limit, shared.limits[0].remaining) == ("account.minute", 3)


def test_refused_request() -> None:
    """The code of the response, the limits without room, in shadow or not, and the wait that admits the request."""
    used = client()
    for _ in range(4):
        used.status("/v1/agents", x_api_key=KEY)

    explained = explain(used, "GET", "/v1/reports/7")

    assert (explained.outcome, explained.status, explained.code) == ("refused", 429, "rate_limit_exceeded")
    assert explained.reason == "no room in minute, account.minute"
    assert explained.refusing == ("minute", "account.minute")
    assert explained.retry_after_ms == 45_000
    used.clock.advance(44_999)
    assert explain(used, "GET", "/v1/reports/7").outcome == "refused"
    used.clock.advance(1)
    assert explain(used, "GET", "/v1/reports/7").outcome == "allowed"


def test_is_what_the_gate_does() -> None:
    """Without room for anything, an explanation and a request agree, and any number of explanations charge nothing."""
    used = client()
    for path in ("/v1/agents", "/v1/reports/1", "/health", "/v1/exports", "/login"):
        for key in (KEY, "awx_free", "awx_other", None):
            for _ in range(3):
                explained = [explain(used, "POST", path, key) for _ in range(5)]
                status = used.status(path, "POST", **({"x_api_key": key} if key else {}))

                assert {each.status or 200 for each in explained} == {status}, (path, key)


def test_exempt_request() -> None:
    """A request may be exempt by its rule, whatever its key, or because its caller is."""
    used = client()

    assert explain(used, "GET", "/health", "awx_other").outcome == "exempt"
    assert [rule.exempts for rule in explain(used, "GET", "/health").rules] == [True]
    assert explain(used, "GET", "/v1/agents", "awx_free").outcome == "exempt"


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        (None, "api_key_missing", "API key is missing. Send it in the X-API-Key header."),
        ("awx_other", "invalid_api_key", "API key is invalid."),
    ],
)
def test_request_without_a_caller(key: str | None, code: str, reason: str) -> None:
    """A 401 with its code. An unknown key in an explanation does not count against its address, and is not shown."""
    used = client()
    explained = [explain(used, "GET", "/v1/agents", key) for _ in range(30)][-1]

    assert (explained.status, explained.code, explained.reason) == (401, code, reason)
    assert "awx_other" not in f"{explained} {explained!r} {explained.fields()}"


def test_address_with_unknown_keys() -> None:
    """An explanation of a caller's request says that its address has sent too many unknown keys, and for how long."""
    used = client()
    for number in range(21):
        used.status("/v1/agents", "GET", x_api_key=f"awx_wrong_{number}")
    request = request_to(used.gate, "GET", "/v1/agents", {}, client="192.0.2.1")
    elsewhere = request_to(used.gate, "GET", "/v1/agents", {}, client="192.0.2.2")
    explained, other = (used.gate.explain(each, lambda _: Caller("k", "p")) for each in (request, elsewhere))

    assert (explained.outcome, explained.unknown_keys_wait_ms, other.unknown_keys_wait_ms) == ("allowed", 3_000, 0)
    assert "for 3 seconds, a key that is not in memory is refused" in str(explained)


def test_budget_of_a_rule() -> None:
    """The budget of a rule has its scope, its owner, and the statuses on which it is charged."""
    budget = explain(client(), "POST", "/login").budgets[-1]

    assert (budget.scope, budget.subject, budget.plan, budget.charge_on) == ("login", "everyone", "login", (401,))
    assert [(limit.limit, limit.counts, limit.cost) for limit in budget.limits] == [("login.minute", "requests", 1)]


def test_limit_of_a_route() -> None:
    """The limits of a route are budgets of it as soon as a request has met them, and may refuse."""
    used, limit = client(), RouteLimit("1/hour", scope="export")
    assert len(explain(used, "GET", "/v1/agents").budgets) == 2
    request = request_to(used.gate, "GET", "/v1/agents", {"X-API-Key": KEY})
    slot = Slot(used.gate, [], *used.gate.admit(request)[2:])
    slot.add_route(used.gate, admit_to_route(limit, "route", request, {}, used.gate, [slot]).decision)
    slot.close()

    explained = explain(used, "GET", "/v1/agents")

    assert explained.refusing == ("export.hour",)
    assert explained.retry_after_ms == 3_600_000
    assert (explained.budgets[-1].scope, explained.budgets[-1].subject) == ("export", "key_1")
    assert len(explain(used, "GET", "/v1/other").budgets) == 2


def test_cost_above_a_burst() -> None:
    """No wait helps a request that costs more than a burst; the limit is named."""
    used = client(rules=[Rule("/v1/imports", cost=lambda _: 7)])
    explained = explain(used, "POST", "/v1/imports")

    assert (explained.status, explained.code, explained.retry_after_ms) == (429, "rate_limit_exceeded", None)
    assert explained.refusing == ("minute", "account.minute")
    assert explained.budgets[0].limits[0].remaining == 6


def test_outage() -> None:
    """An unavailable backend is the 503 of the gate."""

    class Broken(MemoryBackend):
        def peek_joint(self, _: Any) -> Any:
            raise BackendUnavailable("no server")

    used = client()
    used.limiter.backend = Broken()

    assert explain(used, "GET", "/v1/agents").code == "rate_limiter_unavailable"
    assert explain(used, "GET", "/v1/agents").status == 503


def test_caller_instead_of_a_key() -> None:
    """An operator, who has no key, names the caller, or learns why its key is refused."""

    def revoked() -> Caller:
        raise KeyRefused("api_key_revoked")

    gate = client().gate

    assert explain_path(gate, "GET", "/v1/agents", lambda: Caller("key_9")).caller == ExplainedCaller(
        "key_9", "p", None
    )
    assert explain_path(gate, "GET", "/v1/agents", revoked).code == "api_key_revoked"
    assert explain_path(gate, "GET", "/v1/agents").code == "api_key_missing"


def test_async_gate() -> None:
    """An AsyncGate explains as a Gate does, also to a blocking handler that `AsgiApp` runs in a thread."""
    gate = AsyncGate(
        AsyncLimiter(MemoryBackend()), plans=PlanTable([PLAN], default="p"), identify=StaticKeys({KEY: "p"})
    )
    explained = asyncio.run(gate.explain(request_to(gate, "GET", "/v1/agents", {"X-API-Key": KEY})))
    of_operator = asyncio.run(ThreadPool(1).run(explain_path, gate, "GET", "/v1/agents", lambda: Caller("key_9")))

    assert of_operator.caller == ExplainedCaller("key_9", "p", None)
    assert explained.outcome == "allowed"
    assert explained.budgets[0].limits[0].remaining == 6


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("G T", "/x", "method: expected a name such as GET, got 'G T'"),
        ("GET", "x", "path: expected one such as /v1/transfers, got 'x'"),
        ("GET", "/v1/search", "/v1/search: a function of the app raised a ValueError"),
    ],
)
def test_request_that_cannot_be_explained(method: str, path: str, error: str) -> None:
    """A malformed request, or one of which a function of the app needs more, is an error that says so."""
    with pytest.raises(ImpossibleRequest, match=error):
        explain_path(client().gate, method, path, lambda: Caller("key_1"))


def test_error_without_the_key() -> None:
    """What the app's identifier raises may have the key. The message has the kind of error and its place."""

    def identify(request: Request) -> Caller:
        return {"another": Caller("key_1")}[request.header("x-api-key") or ""]

    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN], default="p"), identify=identify)
    request = request_to(gate, "GET", "/x", {"X-API-Key": KEY})

    with pytest.raises(ImpossibleRequest) as caught, explainable(request):
        gate.explain(request)

    assert str(caught.value).startswith(f"/x: a function of the app raised a KeyError ({__file__}:")
    assert KEY not in str(caught.value)


def test_backend_that_the_app_makes_meanwhile(tmp_path: Path) -> None:
    """An identifier of a server may open a file on its first use. It works as if a request had been the first."""
    opened: list[Limiter] = []

    def identify(_: Request) -> Caller:
        opened.append(Limiter(HostBackend(tmp_path / "limits")))
        return Caller("key_1")

    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN], default="p"), identify=identify)
    gate.explain(request_to(gate, "GET", "/x"))
    opened[0].close()

    assert [*tmp_path.iterdir()] == [tmp_path / "limits"]


def test_query() -> None:
    """Functions of rules see the query."""
    assert explain(client(), "GET", "/v1/search?pages=2").cost == {"requests": 2}


def test_text_and_json() -> None:
    """The text names what matters, and the fields are JSON."""
    used = client()
    used.status("/v1/exports", x_api_key=KEY)
    explained = explain(used, "GET", "/v1/reports/7")

    assert json.loads(json.dumps(explained.fields())) == explained.fields()
    assert explained.fields()["budgets"][0]["limits"][0]["limit"] == "minute"
    assert str(explained).splitlines() == [
        "GET /v1/reports/7: allowed",
        "rule: /v1/reports/** (every method)",
        "caller: key_1, plan p, account acme",
        "cost: 3 requests; waits up to 0.5 seconds for room",
        "key_1: plan p",
        "  minute: 6 of 6 requests left",
        "  day: 9 of 9 requests left, in shadow",
        "  concurrent: 1 of 1 slots left",
        "acme (account): plan p.account",
        "  account.minute: 4 of 4 requests left",
    ]


def test_text_of_the_page() -> None:
    """docs/explain.md shows what the command prints."""
    key_id = "key_2fXk9sQd81LmPz0a"
    rules = [Rule("/v1/transfers", methods=["POST"], cost=5)]
    caller = Caller(key_id, "starter", "acct_acme")
    used = Client(plans=PlanTable.default(), identify=lambda _: caller, rules=rules)
    used.clock.advance(1_700_000_000_000 - used.clock.now_ms())
    for _ in range(58):
        used.status()

    assert [f"{explain(used, 'POST', '/v1/transfers')}\n"] == blocks("docs/explain.md", "text")


def test_source_of_a_wsgi_request() -> None:
    """A function of the app can read the request with Flask: its session, its headers, its path and its address."""
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")
    app.secret_key = "a secret of this test"
    gate = client().gate

    made = request_to(gate, "get", "/käse?rows=7", {"X-API-Key": KEY}, "192.0.2.1")
    with app.request_context(made.source):
        seen = flask.request
        assert flask.session.get("user") is None
        assert (seen.method, seen.path, seen.args["rows"]) == ("GET", "/käse", "7")
        assert (seen.headers["X-API-Key"], seen.remote_addr) == (KEY, "192.0.2.1")


def test_source_of_an_asgi_request() -> None:
    """A function of the app can read the request with Starlette: its headers, its path and its address."""
    requests = pytest.importorskip("starlette.requests")
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys({}))

    seen = requests.Request(request_to(gate, "get", "/käse?rows=7", {"X-API-Key": KEY}, "192.0.2.1").source)

    assert (seen.method, seen.url.path, seen.query_params["rows"]) == ("GET", "/käse", "7")
    assert (seen.headers["X-API-Key"], seen.client.host) == (KEY, "192.0.2.1")
