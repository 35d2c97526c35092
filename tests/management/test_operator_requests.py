"""Requests to the operator's API that are refused, and ids in its paths."""

from typing import Any

import pytest
from tests.management.conftest import PLANS, Client, operator_claims, signed

from awx_ratelimit import InvalidLimit, Limiter, Plan
from awx_ratelimit.keys import KeyService
from awx_ratelimit.management import OperatorApi, OperatorTokens
from awx_ratelimit.testing import ManualClock

UNTIL = "2025-06-02T08:00:00Z"
NO_SUCH_ACCOUNT = b'{"code":"account_not_found","type":"not_found_error","message":"There is no such account."}'
#: A call of each kind with an account in its path.
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None), ("PATCH", "", {"plan": "growth"}), ("PUT", "/override", {"times": 2, "until": UNTIL}),
    ("DELETE", "/override", None), ("POST", "/suspend", None), ("POST", "/resume", None), ("GET", "/usage", None),
    ("GET", "/usage/history", None), ("GET", "/shadow-refusals", None),
]  # fmt: skip


@pytest.fixture
def database(sqlite_database: str) -> str:
    """A store in SQLite: these requests are refused before any database is asked to change something."""
    return sqlite_database


@pytest.mark.parametrize(
    "account", ["auth0|7", "a/b/c", "~", "a~1b", ".", "..", "../acme", "x/usage", "%2F", "a?b#c", "é"[:0] + "!"]
)
def test_ids(operator: Client, service: KeyService, account: str) -> None:
    """Every id has a path, and none means another account or another call."""
    service.accounts.create(account)
    path = account.replace("~", "~0").replace("/", "~1").replace(".", "~2")
    suspended = operator("POST", f"/operator/accounts/{path}/suspend")

    assert suspended.json["id"] == account
    assert service.accounts.get("acme").status == "active"


def test_one_path_for_an_id(operator: Client, service: KeyService) -> None:
    """An id with a tilde has one path: what is no escape means nothing."""
    for account in ("~", "~3", "a~"):
        service.accounts.create(account)

    assert {operator("GET", f"/operator/accounts/{one}").code for one in ("~", "~3", "a~")} == {"account_not_found"}
    assert operator("GET", "/operator/accounts/~03").json["id"] == "~3"


def test_unknown_account(operator: Client, service: KeyService) -> None:
    """Ids of no account, and texts that are no id, are the same 404 in every call, and create nothing."""
    ids = [
        "nobody",
        "ACME",
        "acme ",
        "a b",
        "é",
        "a\n",
        "~",
        "~3",
        "acme~",
        "a" * 129,
        "'; DROP TABLE awx_accounts; --",
    ]
    bodies = {
        operator(method, f"/operator/accounts/{one}{more}", body).body for one in ids for method, more, body in CALLS
    }

    assert bodies == {NO_SUCH_ACCOUNT}
    assert service.accounts.list().total == 1
    assert service.events("acme").total == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {}),
        ("PATCH", "", None),
        ("PATCH", "", {"plan": "platinum"}),
        ("PATCH", "", {"plan": "growth", "status": "suspended"}),
        ("PATCH", "", {"plan": "growth", "account_id": "beta"}),
        ("PATCH", "", {"plan": "growth", "id": "beta"}),
        ("PATCH", "", {"plan": 5}),
        ("PATCH", "", {"max_keys": None}),
        ("PATCH", "", {"max_keys": -1}),
        ("PATCH", "", {"max_keys": 10**9}),
        ("PATCH", "", {"plan": "growth", "max_keys": True}),
        ("PATCH", "", {"plan": "growth", "overrides": {"per_minut": 5}}),
        ("PATCH", "", {"overrides": [1]}),
        ("PATCH", "", {"overrides": {"x": "y" * 9_000}}),
        ("PATCH", "", b'{"plan": "growth", "plan": "starter"}'),
        ("PATCH", "", b'{"overrides": {"per_minute": 5, "per_minute": 6}}'),
        ("PATCH", "", [{"plan": "growth"}]),
        ("PUT", "/override", {"times": 2}),
        ("PUT", "/override", {"until": UNTIL}),
        ("PUT", "/override", {"times": 2, "overrides": {"per_minute": 5}, "until": UNTIL}),
        ("PUT", "/override", {"times": 0, "until": UNTIL}),
        ("PUT", "/override", {"times": 1001, "until": UNTIL}),
        ("PUT", "/override", {"times": "2", "until": UNTIL}),
        ("PUT", "/override", {"times": 2, "until": "2025-06-01T10:00:00Z"}),
        ("PUT", "/override", {"times": 2, "until": "monday"}),
        ("PUT", "/override", {"times": 2, "until": 1_800_000_000}),
        ("PUT", "/override", {"times": 2, "until": "2999-01-01"}),
        ("PUT", "/override", {"times": 2, "until": UNTIL, "actor": "bob"}),
        ("PUT", "/override", {"overrides": {}, "until": UNTIL}),
        ("POST", "/suspend", {"account_id": "beta"}),
        ("POST", "/resume", {"x": 1}),
    ],
)
def test_invalid_body(operator: Client, service: KeyService, method: str, path: str, body: Any) -> None:
    """An invalid body, an unknown field and a plan that does not exist are a 400, and change nothing."""
    answer = operator(method, f"/operator/accounts/acme{path}", body)

    assert (answer.status, answer.code) == (400, "invalid_request"), answer.body
    assert service.events("acme").total == 1


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/accounts", "order=plan"),
        ("/accounts", "status=gone"),
        ("/accounts", "prefix="),
        ("/accounts", "prefix=a%20b"),
        ("/accounts", "page_size=101"),
        ("/accounts", "page_num=1&page_num=2"),
        ("/accounts", "from=yesterday"),
        ("/accounts", "account_id=acme"),
        ("/accounts", "x" * 2_000),
        ("/accounts/acme", "account=beta"),
        ("/accounts/acme/usage", "key=x"),
        ("/accounts/acme/usage/history", "by=week"),
        ("/accounts/acme/shadow-refusals", "number=5"),
        ("/shadow-refusals", "number=0"),
        ("/shadow-refusals", "key=x"),
        ("/audit", "action=account.deleted"),
        ("/audit", "before=0"),
        ("/audit", "actor=ada"),
    ],
)
def test_invalid_query(operator: Client, path: str, query: str) -> None:
    """A wrong or unknown parameter is a 400."""
    assert operator("GET", f"/operator{path}", query=query).code == "invalid_request"


@pytest.mark.parametrize(("method", "path", "body"), CALLS[1:6])
def test_query_of_changes(operator: Client, service: KeyService, method: str, path: str, body: Any) -> None:
    """A change refuses a query, which it would ignore."""
    assert operator(method, f"/operator/accounts/acme{path}", body, query="account=beta").code == "invalid_request"
    assert service.events("acme").total == 1


def test_pasted_key(operator: Client, service: KeyService) -> None:
    """A key in a wrong field is in no response and is not stored."""
    key = service.create("acme", "n").secret.reveal()
    answers = [
        operator("PATCH", "/operator/accounts/acme", {"plan": key}),
        operator("PATCH", "/operator/accounts/acme", {"overrides": {"plan": key}}),
        operator("PUT", "/operator/accounts/acme/override", {"overrides": {key: 1}, "until": UNTIL}),
        operator("GET", f"/operator/accounts/{key}"),
        operator("GET", "/operator/accounts", query=f"prefix={key}"),
        operator("GET", "/operator/audit", query=f"account={key}"),
    ]

    assert {answer.status for answer in answers} == {400, 404}
    assert [answer for answer in answers if key[4:30].encode() in answer.body] == []


def test_limit_on_calls(operator: Client, clock: ManualClock, service: KeyService) -> None:
    """Calls are limited for each operator, and suspensions never."""
    for _ in range(300):
        operator("GET", "/operator/accounts/nobody")
    refused = [operator(method, f"/operator/accounts/acme{path}", body).status for method, path, body in CALLS]
    operator.headers = [(b"authorization", f"Bearer {signed(operator_claims(clock, sub='bob'))}".encode())]

    assert refused == [429, 429, 429, 429, 200, 429, 429, 429, 429]
    assert operator("GET", "/operator/audit").status == 200


def test_plan_of_calls_with_slots(service: KeyService, operator_tokens: OperatorTokens, limiter: Limiter) -> None:
    """A plan of calls with slots, which nothing would release, is an error at the start."""
    few = Plan.of("few", per_minute=9, concurrent=2)
    with pytest.raises(InvalidLimit, match=r"^calls: expected a plan with rates only"):
        OperatorApi(service, operator_tokens, limiter=limiter, plans=PLANS, calls=few)
