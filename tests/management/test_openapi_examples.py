"""The examples of the OpenAPI documents are calls of the real APIs, with the replies that these send."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import pytest
from tests.keys.conftest import START_MS
from tests.management.conftest import Client, claims, operator_claims, signed

from awx_ratelimit import Budget, Gate, Limiter, PlanTable, Rule, StoredKeys
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.management import AccessTokens, ManagementApi, OperatorApi, OperatorTokens, openapi, operator_openapi
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.testing import ManualClock

PLANS = PlanTable.from_mapping(
    {
        "default": "starter",
        "plans": {
            "starter": {"per_minute": 60},
            "growth": {
                "per_minute": 300,
                "per_day": {"limit": 100_000, "shadow": True},
                "concurrent": 25,
                "account": {"per_minute": 1_000},
            },
        },
    }
)
DOCUMENTS = {
    "customers": openapi.document("/api/v1"),
    "operators": operator_openapi.document("/api/v1/operator", ["starter", "growth"], has_gate=True),
}
CALLS = [
    (who, method, path)
    for who, document in DOCUMENTS.items()
    for path, calls in document["paths"].items()
    for method in calls
    if method != "parameters"
]
#: What is another text in each run: ids of keys, keys, and their masked form.
_RANDOM = [
    (r"key_[0-9A-Za-z]{16}", "an id"),
    (r"awx_[0-9A-Za-z]{38}", "a key"),
    (r"awx_\.\.\.[0-9A-Za-z]{4}", "a mask"),
]


@pytest.fixture
def database(sqlite_database: str) -> str:
    """A store in SQLite: the replies of both databases are the same."""
    return sqlite_database


@pytest.fixture
def key(store: KeyStore, clock: ManualClock, limiter: Limiter) -> str:
    """The id of a key that has made some requests, as the examples show it."""
    keys = KeyService(store, clock=clock)
    keys.accounts.create("acct_acme", plan="growth")
    created = keys.create("acct_acme", "production-backend", actor="ann@acme.example")
    clock.advance(300_000)
    verifier = KeyVerifier(store, clock=clock)
    caller = verifier.verify(created.secret.reveal().encode())
    verifier.close()
    plan = PLANS.resolve(caller)
    assert plan.account is not None
    limiter.release(limiter.acquire(caller.subject, plan, 12, also=[Budget("acct_acme", plan.account, "account")]))
    hour = HourUsage(caller.subject, START_MS, 12, 1, 3, clock.now_ms(), {"requests": 12}, {"minute": 1}, {"day": 4})
    store.write(statements.add, "test", 1, START_MS, [hour])
    return created.key.id


@pytest.fixture
def clients(
    store: KeyStore, clock: ManualClock, limiter: Limiter, tokens: AccessTokens, operator_tokens: OperatorTokens
) -> Iterator[Callable[[str], Client]]:
    """A function that returns a client of each API."""
    keys, verifier = KeyService(store, clock=clock), KeyVerifier(store, clock=clock)
    gate = Gate(
        limiter,
        plans=PLANS,
        identify=StoredKeys(verifier),
        rules=[Rule("/v1/transfers", methods=["POST"], cost=5)],
    )

    def client(who: str) -> Client:
        if who == "customers":
            api = ManagementApi(keys, tokens, limiter=limiter, plans=PLANS)
            return Client(api, signed(claims(clock, sub="acct_acme")))
        operators = OperatorApi(keys, operator_tokens, limiter=limiter, plans=PLANS, gate=gate)
        return Client(operators, signed(operator_claims(clock)))

    yield client
    verifier.close()


def known(value: Any) -> Any:
    """A body without the texts that differ between runs."""
    text = json.dumps(value)
    for pattern, name in _RANDOM:
        text = re.sub(pattern, name, text)
    return json.loads(text)


@pytest.mark.parametrize(("who", "method", "path"), CALLS, ids=lambda part: part.strip("/") or "accounts")
def test_example(key: str, clients: Callable[[str], Client], who: str, method: str, path: str) -> None:
    """The API answers the request of the example with its reply."""
    described = DOCUMENTS[who]["paths"][path][method]
    sent = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    query = {one["name"]: one["example"] for one in described.get("parameters", []) if "example" in one}
    if "key" in query:
        query["key"] = key
    status, response = next((one, each) for one, each in described["responses"].items() if one < "300")
    place = path.replace("{id}", "acct_acme" if path.startswith("/accounts") else key)

    base = "/operator" if who == "operators" else ""
    answer = clients(who)(method.upper(), base + place, sent, query=urlencode(query))

    assert answer.status == int(status), answer.body
    assert known(answer.json if answer.body else None) == known(
        response.get("content", {}).get("application/json", {}).get("example")
    )


@pytest.mark.parametrize(("who", "method", "path"), CALLS, ids=lambda part: part.strip("/") or "accounts")
def test_example_is_valid(who: str, method: str, path: str) -> None:
    """The bodies of the example have the fields of their schemas."""
    document = DOCUMENTS[who]
    described = document["paths"][path][method]
    parts = [described.get("requestBody", {}), *described["responses"].values()]
    bodies = [part["content"]["application/json"] for part in parts if "application/json" in part.get("content", {})]

    for body in bodies:
        if "example" in body:
            jsonschema_rs.validate({**body["schema"], "components": document["components"]}, body["example"])


@pytest.mark.parametrize("who", DOCUMENTS)
def test_everything_is_described(who: str) -> None:
    """Every parameter and every field says what it means."""
    document = DOCUMENTS[who]
    parameters = [
        one for calls in document["paths"].values() for call in calls.values()
        for one in (call if isinstance(call, list) else call.get("parameters", []))
    ]  # fmt: skip
    fields = [
        (name, field, schema)
        for name, one in document["components"]["schemas"].items()
        for field, schema in one["properties"].items()
    ]

    assert [one["name"] for one in parameters if not one.get("description")] == []
    assert [(name, field) for name, field, schema in fields if not schema.get("description")] == []
