"""The examples of docs/gate.md, docs/identify.md, docs/rules.md and others do what the pages say."""

import json
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import jwt
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from tests.adapters.django_site import Site
from tests.docs.pages import blocks, run, run_text
from werkzeug.test import Client as WerkzeugClient

from awx_ratelimit import Gate, Limiter, MemoryBackend, Plan, PlanTable, Request, StaticKeys
from awx_ratelimit.http.explain import request_to
from awx_ratelimit.keys import KeyService
from awx_ratelimit.testing import frozen

KEY = {"X-API-Key": "awx_example_key"}
ADDRESS = "192.0.2.1"
ALICE = SimpleUser("alice")


@pytest.fixture
def gate_page() -> dict[str, Any]:
    """The names of docs/gate.md."""
    return run("docs/gate.md")


def test_wsgi(gate_page: dict[str, Any]) -> None:
    """The Flask app admits 60 requests of a key a minute."""
    app, statuses = gate_page["flask_app"], []

    with frozen(app.wsgi_app.gate):
        for _ in range(61):
            with app.test_client().get("/", headers=KEY) as response:
                statuses.append(response.status_code)

    assert statuses == [404] * 60 + [429]


def test_own_responses(gate_page: dict[str, Any]) -> None:
    """Browsers get a page, programs JSON, and both the wait."""
    app = gate_page["app_with_own_responses"]

    with frozen(app.gate):
        client = TestClient(app)
        for _ in range(60):
            client.get("/v1/agents", headers=KEY)
        page = client.get("/v1/agents", headers={**KEY, "Accept": "text/html"})
        data = client.get("/v1/agents", headers=KEY)

    assert page.text == "<h1>Please wait a moment</h1>"
    assert data.json() == {"error": "slow_down", "limits": ["minute"], "wait": 1}
    assert page.headers["retry-after"] == data.headers["retry-after"] == "1"
    assert page.status_code == data.status_code == 429


def test_refusal_of_a_plan() -> None:
    """Callers of the plan in the table get its text."""
    (text,) = blocks("docs/gate.md", "toml")
    Path("plans.toml").write_text(text)
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.from_toml("plans.toml"), identify=lambda _: "alice")

    replies = [gate.admit(Request("GET", "/", ADDRESS, lambda _: [])).reply for _ in range(11)]

    assert replies[-1] is not None
    assert replies[-1].body == b'{"error":"upgrade","see":"https://example.com/plans"}'


@pytest.mark.parametrize("key", ["awx_operator_key", "awx_internal_key"])
def test_callers_without_a_limit(gate_page: dict[str, Any], key: str) -> None:
    """The operator and the internal caller are not refused, and get no headers of limits."""
    client = TestClient(gate_page["app_for_staff"])

    answers = [client.get("/v1/agents", headers={"X-API-Key": key}) for _ in range(70)]

    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


def test_exempt_requests(gate_page: dict[str, Any]) -> None:
    """One address needs no key for the metrics, and others do."""
    app = gate_page["app_for_staff"]

    statuses = [TestClient(app, client=(host, 1)).get("/metrics").status_code for host in ("10.0.0.7", "10.0.0.8")]

    assert statuses == [404, 401]


def test_client_behind_a_proxy(gate_page: dict[str, Any]) -> None:
    """Clients are told apart by the header of the proxy, IPv6 clients by 56 bits, and NAT64 is IPv4."""
    app = gate_page["app_behind_a_proxy"]
    client = TestClient(app, client=("10.0.0.1", 1))
    addresses = ["192.0.2.1", "64:ff9b::192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8:0:ff::1"]

    with frozen(app.gate):
        left = [client.get("/", headers={"X-Real-IP": each}).headers["ratelimit"][:13] for each in addresses]

    assert left == ['"minute";r=59', '"minute";r=58', '"minute";r=57', '"minute";r=59', '"minute";r=58']


def test_own_gate(gate_page: dict[str, Any]) -> None:
    """The gate with all options has both dialects of headers, and its exemption."""
    gate = gate_page["gate"]

    assert len(gate.header_names) == 5
    assert gate.is_exempt("GET", "/health") is True


def test_without_http(gate_page: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The example without HTTP prints what remains."""
    capsys.readouterr()
    run_text(next(text for text in blocks("docs/gate.md", "python") if "limiter.hold" in text))

    assert capsys.readouterr().out == "58 of 60 left this minute\n"


def test_of_a_reader(gate_page: dict[str, Any]) -> None:
    """The test that the page shows passes against the page's gate."""
    with frozen(gate_page["gate"]) as clock:
        gate_page["test_the_sixty_first_is_refused"](clock)


class Alice(AuthenticationBackend):
    """Everybody is alice."""

    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(["authenticated"]), ALICE


def test_identify_by_user() -> None:
    """The user whom an outer middleware has found is the caller, and a request without one is anonymous."""
    names = run("docs/identify.md")
    by_user = type(names["by_user"])(Starlette(), identify=names["user"], anonymous=Plan.of("a", per_minute=10))

    with_user = TestClient(AuthenticationMiddleware(by_user, backend=Alice())).get("/")
    without = TestClient(by_user).get("/")

    assert with_user.headers["ratelimit"].startswith('"minute";r=59')
    assert without.headers["ratelimit"].startswith('"minute";r=9')


def test_identify_by_query() -> None:
    """A known tenant has the plan of the function, and an unknown one is a 401."""
    names = run("docs/identify.md")
    client = TestClient(type(names["by_tenant"])(PlainTextResponse("ok"), identify=names["tenant"]))

    assert client.get("/?tenant=north").headers["ratelimit"].startswith('"minute";r=299')
    assert client.get("/?tenant=east").status_code == 401


def test_identify_by_token() -> None:
    """The claims of a JWT say who the caller is, and which plan it has."""
    names = run("docs/identify.md")
    claims = {"iss": "https://login.example.com", "aud": "wallet-api", "sub": "ann", "org": "acme", "plan": "growth"}
    token = jwt.encode(
        {**claims, "exp": int(time.time()) + 600}, "a secret of 32 bytes or more, from your secrets manager"
    )
    middleware = type(names["by_token"])(PlainTextResponse("ok"), gate=names["by_token"].gate)

    answers = [
        TestClient(middleware).get("/", headers={"Authorization": f"Bearer {text}"}) for text in (token, token[:-1])
    ]

    assert answers[0].headers["ratelimit"].startswith('"minute";r=299')
    assert answers[1].json()["code"] == "invalid_access_token"


def test_sessions() -> None:
    """A cached session is admitted from an address that guesses, and others are not looked up any more."""
    names = run("docs/identify.md")
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=names["Sessions"]())

    def ask(session: str) -> Any:
        lines = {b"authorization": [f"Bearer {session}".encode()]}
        return gate.admit(Request("GET", "/", ADDRESS, lambda name: lines.get(name, []))).reply

    assert ask("3f9c") is None
    assert [ask(f"guess-{number}").status for number in range(22)] == [401] * 20 + [429] * 2
    assert ask("3f9c") is None
    assert ask("77ab").status == 429


def test_keys_and_users() -> None:
    """A key of the store is the caller, else the user is, on both kinds of gates; a wrong key is a 401."""
    names = run("docs/identify.md")
    keys = KeyService(names["store"])
    keys.accounts.create("acct_acme", plan="growth")
    secret = keys.create("acct_acme", "first-key").secret.reveal()
    identify = names["KeysAndUsers"](names["verifier"])
    app = names["RateLimitMiddleware"](PlainTextResponse("ok"), identify=identify)
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=identify)
    client = TestClient(AuthenticationMiddleware(app, backend=Alice()))

    answers = [client.get("/", headers=lines) for lines in ({"X-API-Key": secret}, {}, {"X-API-Key": "awx_wrong"})]
    explained = [
        gate.explain(request_to(gate, "GET", "/", lines)._replace(source={"REQUEST_METHOD": "", "REMOTE_USER": ALICE}))
        for lines in ({"X-API-Key": secret}, {})
    ]

    assert [answer.headers.get("ratelimit", "")[:14] for answer in answers] == ['"minute";r=299', '"minute";r=59;', ""]
    assert answers[2].json()["code"] == "invalid_api_key"
    assert TestClient(app).get("/").status_code == 401
    assert [each.caller and each.caller.subject[:4] for each in explained] == ["key_", "user"]
    names["verifier"].close()
    names["store"].close()


def test_rules() -> None:
    """A gate accepts the rules of each block, and the page's function reads the cost from the query."""
    texts = blocks("docs/rules.md", "python")
    for number in range(1, len(texts) + 1):
        names = run_text("".join(texts[:number]))
        gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys({}), rules=names["rules"])

        assert gate.is_exempt("GET", "/health") is any(rule.path == "/health" for rule in names["rules"])

    queries = [b"rows=7", b"", b"rows=x", b"rows=99999"]
    costs = [names["rows"](Request("GET", "/", None, lambda _: [], None, {"query_string": query})) for query in queries]
    assert costs == [7, 1, 1, 1000]


def test_metrics_of_wsgi_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask and Django, under both protocols, show their metrics at /metrics, without a key."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    import_module("examples.django_app")
    names = run("docs/metrics.md")
    flask_app = names["flask_app"]
    with flask_app.test_client().get("/", headers=KEY):
        pages = [flask_app.test_client().get("/metrics").text]
    pages.append(WerkzeugClient(names["application"]).get("/metrics").text)
    pages.append(TestClient(names["asgi_application"]).get("/metrics").text)

    assert all('awx_ratelimit_requests_total{outcome="allowed",plan="starter"} 1.0' in page for page in pages)


def test_decide_in_a_view() -> None:
    """The view of the guide knows when a caller is above its limit, and that of the settings in shadow does too."""
    import_module("examples.django_app")
    names = run("docs/migration/django-ratelimit.md")
    entry = {"MIDDLEWARE": names["MIDDLEWARE"]}
    site = Site({"search": names["search"]}, AWX_RATELIMIT=names["AWX_RATELIMIT"], **entry)
    limited = [json.loads(site.wsgi()("/search", "awx_example_key").body)["limited"] for _ in range(6)]
    shadow = Site({"page": names["page"]}, AWX_RATELIMIT=names["SHADOW_SETTINGS"], **entry).wsgi()

    assert limited == [False] * 5 + [True]
    assert [json.loads(shadow("/page").body)["limited"] for _ in range(3)] == [[], [], ["minute"]]
