"""`GET /usage` of an account whose plan has limits that all its keys share."""

from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.management.conftest import Client, claims, signed
from tests.management.test_openapi import schema_of

from awx_ratelimit import AsyncLimiter, Budget, Limiter, MemoryBackend, PlanTable
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.keys import KeyService
from awx_ratelimit.management import AccessTokens, ManagementApi
from awx_ratelimit.testing import ManualClock

PLANS = PlanTable.from_mapping(
    {
        "default": "team",
        "plans": {
            "team": {
                "per_minute": 300,
                "account": {
                    "per_minute": 1_000,
                    "per_month": {"limit": 2_000, "anchor_day": 15, "timezone": "Europe/Berlin"},
                    "concurrent": 50,
                },
            },
            "llm": {
                "rates": [{"limit": 1_000, "per": "minute", "measure": "tokens"}],
                "account": {"rates": [{"limit": 5_000, "per": "minute", "measure": "tokens"}]},
            },
            "solo": {"per_minute": 60},
        },
    }
)
#: Ten days and one second before the month of PLANS ends.
NOW_MS = int(datetime(2025, 6, 4, 21, 59, 59, tzinfo=UTC).timestamp()) * 1_000
NAMES = ["account.minute", "account.month", "account.concurrent"]


@pytest.fixture
def api(service: KeyService, tokens: AccessTokens, limiter: Limiter, clock: ManualClock) -> ManagementApi:
    """The API with the plans of this module, at a time of which the tests know the month."""
    clock.set(NOW_MS)
    service.accounts.set_plan("acme", "team")
    return ManagementApi(service, tokens, limiter=limiter, plans=PLANS)


@pytest.fixture
def client(api: ManagementApi, clock: ManualClock) -> Client:
    """The client of the account acme."""
    return Client(api, signed(claims(clock, sub="acme")))


def use(limiter: Limiter, key: str, plan: str, cost: Any = 1) -> Any:
    """Charge a key and its account, as a gate does."""
    chosen = next(one for one in PLANS.plans if one.name == plan)
    assert chosen.account is not None
    return limiter.acquire(key, chosen, cost, also=[Budget("acme", chosen.account, "account")], settle=True)


def limit(name: str, capacity: int, used: int, reset_seconds: int, measure: str = "requests") -> dict[str, Any]:
    """The JSON of one limit."""
    return {"name": name, "measure": measure, "capacity": capacity, "used": used, "remaining": capacity - used,
            "reset_seconds": reset_seconds}  # fmt: skip


def test_account(client: Client, service: KeyService, limiter: Limiter) -> None:
    """The limits that keys share stand before the keys, with what all of them have used."""
    for name in ("one", "two"):
        use(limiter, service.create("acme", name).key.family_id, "team", 6)
    usage = client("GET", "/usage").json

    assert list(usage) == ["account", "data"]
    assert usage["account"] == {
        "limits": [
            limit("account.minute", 1_000, 12, 1),
            limit("account.month", 2_000, 12, 10 * 86_400 + 1),
            limit("account.concurrent", 50, 2, 0, "concurrent-requests"),
        ]
    }
    assert [item["limits"] for item in usage["data"]] == [[limit("minute", 300, 6, 2)]] * 2
    jsonschema_rs.validate(schema_of("/usage", "get", 200), usage)


def test_page(client: Client, service: KeyService, limiter: Limiter) -> None:
    """A page of keys has the usage of the whole account."""
    for name in ("one", "two"):
        use(limiter, service.create("acme", name).key.family_id, "team")
    page = client("GET", "/usage", query="page_num=2&page_size=1").json

    assert [one["used"] for one in page["account"]["limits"]] == [2, 2, 2]
    assert [len(page["data"]), page["total"]] == [1, 2]
    jsonschema_rs.validate(schema_of("/usage", "get", 200), page)


def test_account_without_keys(client: Client, service: KeyService, limiter: Limiter) -> None:
    """Usage of the account stays when its last key is revoked."""
    key = service.create("acme", "n").key
    use(limiter, key.family_id, "team", 5)
    service.revoke("acme", key.id)
    usage = client("GET", "/usage").json

    assert usage["data"] == []
    assert [one["used"] for one in usage["account"]["limits"]] == [5, 5, 1]


def test_tokens_in_debt(client: Client, service: KeyService, limiter: Limiter) -> None:
    """A limit on tokens says so, and one that settling has overdrawn has nothing left."""
    service.accounts.set_plan("acme", "llm")
    family = service.create("acme", "n").key.family_id
    limiter.settle(use(limiter, family, "llm", {"tokens": 100}), {"tokens": 7_500})
    usage = client("GET", "/usage").json

    assert usage["account"]["limits"] == [limit("account.tokens-minute", 5_000, 5_000, 90, "tokens")]
    assert usage["data"][0]["limits"] == [limit("tokens-minute", 1_000, 1_000, 120, "tokens")]


def test_plan_without_shared_limits(client: Client, service: KeyService) -> None:
    """An account whose keys share no limit has no field `account`."""
    service.accounts.set_plan("acme", "solo")
    service.create("acme", "n")

    assert list(client("GET", "/usage").json) == ["data"]


def test_overrides(client: Client, service: KeyService) -> None:
    """The account's own overrides change what its keys share."""
    service.accounts.set_overrides("acme", {"account": {"per_minute": 12_000}})
    limits = client("GET", "/usage").json["account"]["limits"]

    assert [one["name"] for one in limits] == NAMES
    assert [one["capacity"] for one in limits] == [12_000, 2_000, 50]


def test_one_batch(client: Client, service: KeyService, api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account and its keys are read together, with one peek each."""
    for name in ("one", "two", "three"):
        service.create("acme", name)
    batches: list[list[str | None]] = []
    peek_many = api._limiter.peek_many

    def counted(budgets: Any) -> Any:
        batches.append([budget.scope for budget in budgets])
        return peek_many(budgets)

    monkeypatch.setattr(api._limiter, "peek_many", counted)
    client("GET", "/usage")

    assert batches == [[None, None, None, "account"]]


def test_async_limiter(service: KeyService, tokens: AccessTokens, clock: ManualClock) -> None:
    """With an AsyncLimiter, the account and its keys are read on the server's event loop."""
    clock.set(NOW_MS)
    service.accounts.set_plan("acme", "team")
    service.create("acme", "n")
    api = ManagementApi(service, tokens, limiter=AsyncLimiter(MemoryBackend(clock=clock)), plans=PLANS)
    with TestClient(Starlette(routes=[Mount("/api/v1", AsgiApp(api))])) as http:
        token = signed(claims(clock, sub="acme"))
        usage = http.get("/api/v1/usage", headers={"Authorization": f"Bearer {token}"}).json()

    assert [one["name"] for one in usage["account"]["limits"]] == NAMES
    assert [one["name"] for one in usage["data"][0]["limits"]] == ["minute"]
