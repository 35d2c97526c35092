"""The calls of the operator's API: their fields, what they change, and the requests that they refuse."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import openapi_spec_validator
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.keys.conftest import START_MS
from tests.management.conftest import PLANS, Client, operator_claims, signed
from tests.management.test_operator_requests import CALLS

from awx_ratelimit import AsyncLimiter, Gate, Limiter, MemoryBackend, Plan, Rule, StaticKeys, StoredKeys
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.management import OperatorApi, OperatorTokens, operator_api, operator_openapi
from awx_ratelimit.management.routing import OPERATOR_RESOURCES
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.testing import ManualClock

DOCUMENT = operator_openapi.document("/api/v1/operator", ["starter", "growth"], has_gate=True)
UNTIL = "2025-06-02T08:00:00Z"
ACME = {
    "id": "acme", "plan": "starter", "overrides": None, "temporary_override": None, "status": "active",
    "max_keys": 100, "created_at": "2025-06-01T10:00:00Z",
}  # fmt: skip
Fill = Callable[..., str]


@pytest.fixture
def used(store: KeyStore, service: KeyService) -> Fill:
    """A function that records usage of a new key of an account."""
    numbers = iter(range(1, 100))

    def fill(account: str = "acme", allowed: int = 3, refused: int = 1, **shadows: int) -> str:
        service.accounts.ensure(account, plan="starter")
        key = service.create(account, "n").key.id
        hour = HourUsage(key, START_MS, allowed, refused, 1, START_MS, {}, {"minute": refused}, shadows)
        store.write(statements.add, "test", next(numbers), START_MS, [hour])
        return key

    return fill


def schema_of(path: str, method: str, status: int) -> Any:
    """The schema of a response."""
    schema = DOCUMENT["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


def test_list(operator: Client, used: Fill, service: KeyService) -> None:
    """The list has the accounts with their requests in the time, filtered and in the order that is asked for."""
    used("beta", 9)
    used("acme", 3)
    service.accounts.create("c", plan="growth")
    listed = operator("GET", "/operator/accounts", query="order=requests&from=2025-05-31&page_size=1")

    assert listed.status == 200
    assert list(listed.json) == ["by", "from", "to", "data", "total", "has_more"]
    assert (listed.json["from"], listed.json["to"]) == ("2025-05-31T00:00:00Z", "2025-06-02T00:00:00Z")
    assert listed.json["data"] == [{**ACME, "id": "beta", "allowed": 9, "refused": 1}]
    assert (listed.json["total"], listed.json["has_more"]) == (2, True)
    assert [one["id"] for one in operator("GET", "/operator/accounts", query="plan=growth").json["data"]] == ["c"]
    assert listed.headers[b"cache-control"] == b"no-store"


def test_account(operator: Client, service: KeyService) -> None:
    """One account has its limits and its keys, without their secrets."""
    key = service.create("acme", "n")
    service.accounts.set_overrides("acme", {"account": {"per_minute": 7}})
    shown = operator("GET", "/operator/accounts/acme")

    assert {name: shown.json[name] for name in ACME} == {**ACME, "overrides": {"account": {"per_minute": 7}}}
    assert shown.json["limits"][0] == {
        "name": "minute", "measure": "requests", "limit": 60, "burst": 60, "shadow": False,
    }  # fmt: skip
    assert [one["name"] for one in shown.json["limits"]] == ["minute", "day", "concurrent", "account.minute"]
    assert [one["id"] for one in shown.json["keys"]["data"]] == [key.key.id]
    assert key.secret.reveal().encode() not in shown.body


def test_plan_that_is_gone(operator: Client, service: KeyService) -> None:
    """An account whose plan is no longer in the table is shown without limits, and can be given another plan."""
    service.accounts.set_plan("acme", "old")

    assert operator("GET", "/operator/accounts/acme").json["limits"] is None
    assert operator("POST", "/operator/accounts/acme/suspend").status == 200
    assert operator("PATCH", "/operator/accounts/acme", {"plan": "growth"}).json["plan"] == "growth"


def test_change(operator: Client, service: KeyService) -> None:
    """PATCH changes what it names in one step, null removes, and the events name the operator."""
    changed = operator("PATCH", "/operator/accounts/acme", {"plan": "growth", "overrides": {"per_minute": 9}})
    reset = operator("PATCH", "/operator/accounts/acme", {"plan": None, "overrides": None, "max_keys": 5})

    assert changed.json == {**ACME, "plan": "growth", "overrides": {"per_minute": 9}}
    assert reset.json == {**ACME, "plan": None, "max_keys": 5}
    assert {event.actor for event in service.events("acme").items[:-1]} == {"operator:ada"}


def test_override(operator: Client, service: KeyService, clock: ManualClock) -> None:
    """A temporary override, as limits or as a multiple, holds until its end or until it is deleted."""
    doubled = operator("PUT", "/operator/accounts/acme/override", {"times": 2, "until": UNTIL})
    listed = operator(
        "PUT", "/operator/accounts/acme/override", {"overrides": {"per_minute": 9}, "until": "2025-06-03"}
    )
    ended = [operator("DELETE", "/operator/accounts/acme/override") for _ in range(2)]
    after = operator("GET", "/operator/accounts/acme").json["temporary_override"]
    operator("PUT", "/operator/accounts/acme/override", {"times": 0.5, "until": UNTIL})
    limits = operator("GET", "/operator/accounts/acme").json["limits"]
    clock.advance(86_400_000)
    operator.headers = [(b"authorization", f"Bearer {signed(operator_claims(clock))}".encode())]

    assert doubled.json == {**ACME, "temporary_override": {"overrides": {"times": 2}, "until": UNTIL}}
    assert listed.json["temporary_override"] == {"overrides": {"per_minute": 9}, "until": "2025-06-03T00:00:00Z"}
    assert [answer.status for answer in ended] == [204, 204]
    assert after is None
    assert limits[0]["limit"] == 30
    assert operator("GET", "/operator/accounts/acme").json["limits"][0]["limit"] == 60


@pytest.mark.parametrize(
    ("body", "got"),
    [({}, "neither times nor overrides"), ({"times": 2, "overrides": {"per_minute": 9}}, "both times and overrides")],
)
def test_wrong_override(operator: Client, body: dict[str, Any], got: str) -> None:
    """The error says which of the two was sent."""
    answer = operator("PUT", "/operator/accounts/acme/override", {**body, "until": UNTIL})

    assert answer.status == 400
    assert answer.json["message"].startswith(f"The body has {got}; send either overrides, or times")


def test_suspend_and_resume(operator: Client, service: KeyService) -> None:
    """Suspend and resume answer with the account, are safe to repeat, and are in the audit trail."""
    answers = [operator("POST", f"/operator/accounts/acme/{act}") for act in ("suspend", "suspend", "resume", "resume")]

    assert [answer.json["status"] for answer in answers] == ["suspended", "suspended", "active", "active"]
    assert [(event.action, event.actor) for event in service.events("acme").items[:2]] == [
        ("account.activated", "operator:ada"),
        ("account.suspended", "operator:ada"),
    ]


def test_usage(operator: Client, service: KeyService, limiter: Limiter, used: Fill) -> None:
    """What an account uses now and has used, and what limits in shadow would have refused, as customers see it."""
    key = used("acme", 5, 2, day=4)
    limiter.acquire(key, PLANS.plans[0], 7)
    now = operator("GET", "/operator/accounts/acme/usage").json
    history = operator("GET", "/operator/accounts/acme/usage/history", query=f"key={key}&from=2025-06-01").json
    csv = operator("GET", "/operator/accounts/acme/usage/history", query="format=csv&from=2025-06-01")
    shadow = operator("GET", "/operator/accounts/acme/shadow-refusals", query=f"key={key}").json
    of_all = operator("GET", "/operator/shadow-refusals", query="by=hour&number=5").json

    assert (now["data"][0]["id"], now["data"][0]["limits"][0]["used"]) == (key, 7)
    assert (history["data"][0]["allowed"], history["data"][0]["refused"]) == (5, 2)
    assert csv.headers[b"content-type"] == b"text/csv; charset=utf-8"
    assert shadow == {"limits": {"day": 4}}
    assert of_all["limits"] == {"day": 4}
    assert of_all["accounts"] == [{"id": "acme", "number": 4, "limits": {"day": 4}}]


def test_audit(operator: Client, service: KeyService) -> None:
    """The audit trail has the events of all accounts, newest first, by account, by action and before a number."""
    operator("POST", "/operator/accounts/acme/suspend")
    service.accounts.create("beta")
    newest, second, *_ = operator("GET", "/operator/audit").json["data"]
    suspended = operator("GET", "/operator/audit", query="account=acme&action=account.suspended").json

    assert (newest["account_id"], newest["action"], newest["actor"]) == ("beta", "account.created", None)
    assert suspended["data"] == [second]
    assert second["details"] == {"before": "active", "after": "suspended"}
    assert operator("GET", "/operator/audit", query=f"before={newest['number']}&page_size=1").json["data"] == [second]


def test_explain(
    service: KeyService, store: KeyStore, operator_tokens: OperatorTokens, limiter: Limiter, clock: ManualClock
) -> None:
    """`explain` shows what the gate would do with a request of a key, without a charge. Without a gate it is absent."""
    verifier = KeyVerifier(store, clock=clock)
    gate = Gate(limiter, plans=PLANS, identify=StoredKeys(verifier), rules=[Rule("/v1/pay", cost=5)])
    api = OperatorApi(service, operator_tokens, limiter=limiter, plans=PLANS, gate=gate)
    client = Client(api, signed(operator_claims(clock)))
    key = service.create("acme", "n").key.id
    found = [client("GET", "/operator/explain", query=f"method=POST&path=/v1/pay&key={key}").json for _ in range(2)]
    wrong = [
        client("GET", "/operator/explain", query=query) for query in ("", "path=x", "path=/&key=key_1", "path=/&x=1")
    ]
    without = Client(OperatorApi(service, operator_tokens, limiter=limiter, plans=PLANS), "")(
        "GET", "/operator/explain"
    )
    verifier.close()

    assert (found[0]["outcome"], found[0]["cost"], found[0]["caller"]["account"]) == (
        "allowed",
        {"requests": 5},
        "acme",
    )
    assert [one["remaining"] for one in found[1]["budgets"][0]["limits"]] == [60, 10_000, 5]
    assert [answer.code for answer in wrong] == [
        "invalid_request", "invalid_request", "api_key_not_found", "invalid_request",
    ]  # fmt: skip
    assert without.code == "not_found"


def test_explain_address(
    service: KeyService, operator_tokens: OperatorTokens, limiter: Limiter, clock: ManualClock
) -> None:
    """`explain` takes the address of the client that sends the request, and refuses what is not an address."""
    gate = Gate(limiter, plans=PLANS, identify=StaticKeys({}), anonymous=Plan.of("public", per_minute=3))
    api = OperatorApi(service, operator_tokens, limiter=limiter, plans=PLANS, gate=gate)
    client = Client(api, signed(operator_claims(clock)))
    found = client("GET", "/operator/explain", query="path=/&address=192.0.2.1").json
    wrong = client("GET", "/operator/explain", query="path=/&address=localhost")

    assert found["caller"] == {"subject": "address:192.0.2.1", "plan": "public", "account": None}
    assert (wrong.status, wrong.code) == (400, "invalid_request")
    assert "address: not an address; expected one such as 192.0.2.1" in wrong.json["message"]


def test_address_in_the_document() -> None:
    """The document allows the addresses that `explain` takes, of IPv4 and of IPv6, and nothing else."""
    [schema] = [one["schema"] for one in DOCUMENT["paths"]["/explain"]["get"]["parameters"] if one["name"] == "address"]
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)

    assert [text for text in ("192.0.2.1", "2001:db8::1", "::1") if not validator.is_valid(text)] == []
    assert [text for text in ("localhost", "192.0.2.256", "1:2") if validator.is_valid(text)] == []


def test_document(operator: Client) -> None:
    """The document is valid, and has exactly the calls of the API."""
    served = operator("GET", "/operator/openapi.json").json
    paths = DOCUMENT["paths"].items()
    described = {(path, method.upper()) for path, calls in paths for method in calls if method != "parameters"}
    openapi_spec_validator.validate(DOCUMENT)

    assert served["servers"] == [{"url": "/api/v1/operator"}]
    assert "/explain" not in served["paths"]
    assert described == {(path, one) for path, acts in OPERATOR_RESOURCES for one in acts} - {("/openapi.json", "GET")}
    used = {part.split('"')[0] for part in json.dumps(DOCUMENT).split("#/components/schemas/")[1:]}
    assert used == set(DOCUMENT["components"]["schemas"])


def test_responses(operator: Client, used: Fill) -> None:
    """Every response has a documented status and the fields of its schema."""
    used("acme", 3, 1, minute=2)
    calls = [*((method, f"/accounts/{{id}}{path}", body) for method, path, body in CALLS if path != "/override"),
             ("PUT", "/accounts/{id}/override", {"times": 2, "until": UNTIL}), ("GET", "/accounts", None),
             ("GET", "/shadow-refusals", None), ("GET", "/audit", None)]  # fmt: skip
    for method, path, body in calls:
        for account, query in (("acme", ""), ("nobody", ""), ("acme", "x=1")):
            answer = operator(method, "/operator" + path.replace("{id}", account), body, query=query)

            jsonschema_rs.validate(schema_of(path, method.lower(), answer.status), answer.json)


def test_find_keys(operator: Client, service: KeyService) -> None:
    """A key is found by what a log shows of it, or by its ID, also after it was revoked, and with its account."""
    old = service.create("acme", "n").key
    new = service.rotate("acme", old.id).key
    service.revoke("acme", old.id)
    by_mask = operator("GET", "/operator/api-keys", query=f"key={new.masked}").json["data"]
    [by_id] = operator("GET", "/operator/api-keys", query=f"key={old.id}").json["data"]

    assert by_mask == [
        {
            "account_id": "acme", "subject": old.id, "id": new.id, "name": "n", "prefix": new.masked,
            "created_at": "2025-06-01T10:00:00Z", "last_used_at": None, "status": "active", "expires_at": None,
            "revoked_at": None,
        }
    ]  # fmt: skip
    assert (by_id["status"], by_id["revoked_at"]) == ("revoked", "2025-06-01T10:00:00Z")
    assert operator("GET", "/operator/api-keys", query="key=...none").json == {"data": []}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "key: is missing; this field is required."),
        ("key=acme", "key: not what is shown of a key; expected the masked form of a key, such as awx_...x4f2, or the"),
        ("key=KEY", "key: contains an API key; remove it"),
    ],
)
def test_wrong_search(operator: Client, service: KeyService, query: str, message: str) -> None:
    """A search needs what is shown of a key, and refuses a whole key without repeating it."""
    secret = service.create("acme", "n").secret.reveal()
    answer = operator("GET", "/operator/api-keys", query=query.replace("KEY", secret))

    assert answer.status == 400
    assert answer.json["message"].startswith(message)
    assert secret[4:30].encode() not in answer.body


def test_revoke_a_key(operator: Client, service: KeyService) -> None:
    """One key of any account is revoked, and the event names the operator. Again, or an unknown one, is a 404."""
    key, other = service.create("acme", "n").key, service.create("acme", "m").key
    answers = [
        operator("DELETE", f"/operator/api-keys/{name}") for name in (key.id, key.id, "key_0123456789abcdef", "x")
    ]

    assert [answer.status for answer in answers] == [204, 404, 404, 404]
    assert {answer.code for answer in answers[1:]} == {"api_key_not_found"}
    assert [one.id for one in service.list("acme").items] == [other.id]
    assert (service.events("acme").items[0].action, service.events("acme").items[0].actor) == (
        "key.revoked",
        "operator:ada",
    )


def test_revocations_are_not_limited(operator: Client, service: KeyService) -> None:
    """An operator whose calls are refused can still revoke a key."""
    key = service.create("acme", "n").key
    statuses = {operator("GET", "/operator/audit").status for _ in range(301)}

    assert statuses == {200, 429}
    assert operator("DELETE", f"/operator/api-keys/{key.id}").status == 204


def test_reset(operator: Client, service: KeyService, limiter: Limiter) -> None:
    """A reset clears what is counted for a subject, in one scope or in all, and says whether there was anything."""
    plan = PLANS.plans[0]
    old = service.create("acme", "n").key.id
    new = service.rotate("acme", old).key.id
    for subject, scope in ((old, None), ("acme", "account"), ("acme", "login"), ("address:192.0.2.1", "login")):
        limiter.release(limiter.acquire(subject, plan, scope=scope))

    def reset(subject: str, **scope: str) -> Any:
        return operator("POST", "/operator/reset", {"subject": subject, **scope}).json

    assert reset(new) == {"subject": old, "scope": None, "was_counted": True}
    assert reset("acme", scope="account") == {"subject": "acme", "scope": "account", "was_counted": True}
    assert limiter.peek(old, plan).usages[0].remaining == 60
    assert limiter.peek("acme", plan, scope="account").usages[0].remaining == 60
    assert limiter.peek("acme", plan, scope="login").usages[0].remaining == 59
    assert reset("address:192.0.2.1")["was_counted"] is True
    assert reset("key_of_app") == {"subject": "key_of_app", "scope": None, "was_counted": False}
    assert reset("address:192.0.2.2")["was_counted"] is False


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "subject: is missing; this field is required."),
        (
            {"subject": 7},
            400,
            "subject: expected 1 to 256 characters, not counting white space around them, got an",
        ),
        ({"subject": ""}, 400, "subject: has 0 characters; expected 1 to 256 characters"),
        ({"subject": " acme"}, 400, "subject: has white space around it; remove it."),
        ({"subject": "a\ud800"}, 400, "subject: contains the invisible character U+D800; remove it."),
        ({"subject": "a", "scope": "Login"}, 400, "scope: not a scope; expected 1 to 32 of a-z, 0-9, _ and -."),
        ({"subject": "a", "scope": 5}, 400, "scope: not a scope; expected 1 to 32 of a-z, 0-9, _ and -."),
        ({"subject": "a", "plan": "x"}, 400, "The body has unknown fields; allowed are subject, scope."),
        ({"subject": "key_0123456789abcdef"}, 404, "There is no such API key."),
    ],
)
def test_wrong_reset(operator: Client, body: Any, status: int, message: str) -> None:
    """What is no subject or no scope is one error, and so is the ID of a key that the store does not have."""
    answer = operator("POST", "/operator/reset", body)

    assert answer.status == status
    assert answer.json["message"].startswith(message)


def test_event_of_a_reset(
    operator: Client, service: KeyService, limiter: Limiter, caplog: pytest.LogCaptureFixture
) -> None:
    """A reset of a key or an account is an event of the account, unless nothing was counted; any other is a warning."""
    plan = PLANS.plans[0]
    old = service.create("acme", "n").key.id
    new = service.rotate("acme", old).key.id
    for subject, scope in ((old, None), ("acme", "account"), ("address:192.0.2.1", None), ("beta", None)):
        limiter.release(limiter.acquire(subject, plan, scope=scope))

    before = service.events("acme").total
    for body in (
        {"subject": new},
        {"subject": "acme", "scope": "account"},
        {"subject": "acme"},
        {"subject": "address:192.0.2.1"},
        {"subject": "beta", "scope": "login"},
        {"subject": "beta"},
    ):
        assert operator("POST", "/operator/reset", body).status == 200
    events = operator("GET", "/operator/audit", query="account=acme").json["data"]

    assert len(events) == before + 2
    assert [(one["action"], one["key_id"], one["actor"], one["details"]) for one in events[:2]] == [
        ("account.usage_reset", None, "operator:ada", {"subject": "acme", "scope": "account"}),
        ("key.usage_reset", new, "operator:ada", {"subject": old, "scope": None}),
    ]
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", f"operator:ada has reset the usage of {subject!r} in all scopes")
        for subject in ("address:192.0.2.1", "beta")
    ]
    for action in ("key.usage_reset", "account.usage_reset"):
        assert operator("GET", "/operator/audit", query=f"action={action}").json["total"] == 1


@pytest.mark.parametrize("name", ["operator-calls:operator:ada", "api-key-calls:acme", "api-keys:acme"])
def test_reset_of_the_limits_of_the_apis(
    operator: Client, client: Client, service: KeyService, limiter: Limiter, name: str
) -> None:
    """No call resets the limits of the calls themselves: an operator would have none."""
    client("GET", "/api-keys")
    client("POST", "/api-keys", {"name": "n"})
    operator("GET", "/operator/audit")
    counted = limiter.peek(name, operator_api.CALLS).usages[0].remaining
    answer = operator("POST", "/operator/reset", {"subject": name})

    assert counted == 299
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.json["message"] == (
        "subject: is that of a limit of the REST APIs, which cannot be reset; expected a key, an account or another "
        "subject of your app."
    )


@pytest.mark.parametrize("prefix", ["awx_", "sklive_"])
def test_reset_of_a_key(
    store: KeyStore,
    operator_tokens: OperatorTokens,
    limiter: Limiter,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    prefix: str,
) -> None:
    """A whole key as the subject is refused, whatever its prefix, and is in no reply and no log."""
    caplog.set_level("INFO")
    keys = KeyService(store, keys=KeyFormat(prefix), clock=clock)
    keys.accounts.ensure("acme")
    key = keys.create("acme", "n").secret.reveal()
    api = OperatorApi(keys, operator_tokens, limiter=limiter, plans=PLANS)
    answer = Client(api, signed(operator_claims(clock)))("POST", "/operator/reset", {"subject": key})

    assert answer.status == 400
    assert answer.json["message"].startswith("subject: contains an API key; remove it")
    assert key[-38:] not in answer.body.decode() + caplog.text


def test_reset_in_an_event_loop(service: KeyService, operator_tokens: OperatorTokens, clock: ManualClock) -> None:
    """With an AsyncLimiter, a reset is made on the server's event loop."""
    backend = MemoryBackend(clock=clock)
    Limiter(backend).acquire("ada", PLANS.plans[1], scope="login")
    api = OperatorApi(service, operator_tokens, limiter=AsyncLimiter(backend), plans=PLANS)
    with TestClient(Starlette(routes=[Mount("/api/v1/operator", AsgiApp(api))])) as http:
        headers = {"Authorization": f"Bearer {signed(operator_claims(clock))}"}
        sent = {"subject": "ada", "scope": "login"}
        found = [http.post("/api/v1/operator/reset", json=sent, headers=headers).json() for _ in range(2)]

    assert [one["was_counted"] for one in found] == [True, False]
