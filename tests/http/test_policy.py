"""The options of a gate: budgets, anonymous plans, dialects, problem documents."""

import json
import logging
from typing import Any

import pytest
from tests.http.gate_client import Client

from awx_ratelimit import InvalidLimit, Plan, PlanTable, Rule


def test_budget() -> None:
    """A budget and the plan are charged in one claim, and a refusal by the budget charges neither."""
    client = Client(rules=[Rule("/login", methods=["POST"], budget="login", plan=Plan.of("login", per_minute=3))])
    statuses = [client.status("/login", "POST", x_api_key="k") for _ in range(5)]

    admission = client.send("/", x_api_key="k")
    refused = client.send("/login", "POST", x_api_key="k")
    assert statuses == [200] * 3 + [429] * 2
    assert (admission.decision and admission.decision.usages[0].remaining) == 56
    assert refused.decision is not None
    assert [usage.limit for usage in refused.decision.usages if usage.refused] == ["login.minute"]


def test_budget_between_other_requests() -> None:
    """Requests to other paths do not reset a budget."""
    client = Client(rules=[Rule("/login", budget="login", plan=Plan.of("login", per_minute=3))])
    paths = ["/login", "/", "/login", "/", "/login", "/", "/login"]

    assert [client.status(path, x_api_key="k") for path in paths] == [200] * 6 + [429]


@pytest.mark.parametrize("path", ["//login", "/login/", "/login//"])
def test_budget_with_extra_slashes(path: str) -> None:
    """A budget also covers doubled and trailing slashes."""
    client = Client(rules=[Rule("/login", budget="login", plan=Plan.of("login", per_minute=1))])

    assert client.status("/login", x_api_key="k") == 200
    assert client.status(path, x_api_key="k") == 429


def test_budget_with_a_shadow_plan() -> None:
    """A budget refuses even if the caller's plan is in shadow mode."""
    plans = PlanTable([Plan.of("p", per_minute=1, shadow=True)], default="p")
    client = Client(plans=plans, rules=[Rule("/login", budget="b", plan=Plan.of("login", per_minute=2))])

    assert [client.status("/login", x_api_key="k") for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": "b"},
        {"plan": Plan.of("p", per_minute=1)},
        {"budget": "B", "plan": Plan.of("p", per_minute=1)},
        {"budget": "b" * 33, "plan": Plan.of("p", per_minute=1)},
        {"budget": "account", "plan": Plan.of("p", per_minute=1)},
        {"budget": "service", "plan": Plan.of("p", per_minute=1)},
        {"budget": "b", "plan": Plan.of("p", per_minute=1, account=Plan.of("a", per_minute=1))},
        {"budget": "b", "plan": Plan.unlimited("p")},
        {"budget": "b", "plan": Plan.of("p", per_minute=1), "cost": 2},
        {"budget": "b", "plan": Plan.of("p", per_minute=1), "per": "key"},
        {"per": "address"},
        {"charge_on": 401},
        {"charge_on": []},
        {"charge_on": {401, "403"}},
        {"charge_on": {42}},
        {"charge_on": {True}},
        {"cost": {}},
        {"cost": {"tokens": -1}},
        {"cost": {1: 1}},
        {"wait_ms": -1},
        {"wait_ms": 86_400_001},
        {"wait_ms": True},
        {"max_waiting": 0},
        {"max_waiting": 10_001},
        {"exempt": True, "charge_on": {401}},
        {"exempt": True, "wait_ms": 1},
        {"budget": "b", "plan": Plan.of("p", per_minute=1), "exempt": True},
        {"exempt": True, "cost": 5},
    ],
)
def test_invalid_budget(fields: Any) -> None:
    """A budget without a name or a plan, on an exempt path or with a wrong option raises InvalidLimit."""
    with pytest.raises(InvalidLimit, match=r"Rule\('/login'\)"):
        Rule("/login", **fields)


def test_cost_0() -> None:
    """A rule of cost 0 takes a slot and no tokens, and its headers still show the rates."""
    client = Client(rules=[Rule("/poll", cost=0)])
    held = [client.send("/poll", x_api_key="k") for _ in range(2)]

    third = client.send("/poll", x_api_key="k")
    assert third.reply is not None
    assert held[0].headers[1][1] == b'"minute";r=60;t=60, "concurrent";r=1'
    assert third.reply.status == 429
    assert (held[0].decision and held[0].decision.usages[0].remaining) == 60


def test_request_without_a_key() -> None:
    """Without `anonymous` it gets a 401; with `anonymous` each address has its own budget."""
    anonymous = Client(anonymous=Plan.of("anonymous", per_minute=2))
    statuses = [anonymous.status() for _ in range(3)]

    assert Client().status() == 401
    assert statuses == [200, 200, 429]
    assert anonymous.status(client="192.0.2.2") == 200


def test_forged_forwarded_header() -> None:
    """A client cannot escape the limit of its address with X-Forwarded-For."""
    client = Client(anonymous=Plan.of("anonymous", per_minute=2))

    assert [client.status(x_forwarded_for=f"198.51.100.{n}") for n in range(4)] == [200, 200, 429, 429]


@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        ("draft", [b"ratelimit-policy", b"ratelimit"]),
        ("legacy", [b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"]),
        (
            "both",
            [b"ratelimit-policy", b"ratelimit", b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"],
        ),
        ("none", []),
    ],
)
def test_dialects(dialect: Any, names: list[bytes]) -> None:
    """Admitted and refused responses have the same headers, and the adapters replace exactly these."""
    client = Client(headers=dialect, plans=PlanTable([Plan.of("p", per_minute=1)], default="p"))
    admitted, refused = client.send(x_api_key="k"), client.send(x_api_key="k")

    assert refused.reply is not None
    assert [name for name, _ in admitted.headers] == names
    assert [name for name, _ in refused.reply.headers][4:] == names
    assert client.gate.header_names == frozenset(names)


def test_legacy_headers() -> None:
    """They show the limit with the fewest tokens left, and the seconds until it is full."""
    plans = PlanTable([Plan.of("p", per_minute=60, per_day=3, concurrent=5)], default="p")
    client = Client(headers="legacy", plans=plans)

    assert [value for _, value in client.send(x_api_key="k").headers] == [b"3", b"2", b"28800"]


def test_legacy_headers_of_slots() -> None:
    """If the slots refuse, the headers show the slots."""
    client = Client(headers="legacy")
    refused = [client.send(x_api_key="k") for _ in range(3)][-1]

    assert refused.reply is not None
    assert refused.reply.headers[4:] == [
        (b"x-ratelimit-limit", b"2"), (b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", b"0"),
    ]  # fmt: skip


def test_expose() -> None:
    """With `expose` both kinds of response list the headers that scripts may read."""
    client = Client(expose=True, plans=PlanTable([Plan.of("p", per_minute=1)], default="p"))
    admitted, refused = client.send(x_api_key="k"), client.send(x_api_key="k")

    line = (b"access-control-expose-headers", b"retry-after, ratelimit-policy, ratelimit")
    assert refused.reply is not None
    assert admitted.headers[-1] == line
    assert refused.reply.headers[-1] == line


@pytest.mark.parametrize(
    ("accept", "problem"),
    [
        ("application/problem+json", True),
        ("application/problem+json, application/json;q=0.9", True),
        ("application/json;q=0.5, Application/Problem+JSON;Q=0.8", True),
        ("application/problem+json, application/json", False),
        ("application/problem+json;q=0.1, application/json;q=0.2", False),
        ("application/problem+json;q=0", False),
        ("application/problem+json;q=x", False),
        ("application/json", False),
        ("*/*", False),
        ("*/*, application/problem+json;q=0.5", False),
        ("*/*;q=0.1, application/problem+json;q=0.5", True),
        ("", False),
        (",;=q,application/problem+json;;q", True),
        ("\xff\x00application/problem+json", False),
    ],
)
def test_problem_document(accept: str, problem: bool) -> None:
    """Clients that prefer `application/problem+json` get RFC 9457 with the limits that refused."""
    client = Client(plans=PlanTable([Plan.of("p", per_minute=1, per_day=9)], default="p"))
    client.send(x_api_key="k")

    reply = client.send(x_api_key="k", accept=accept).reply
    assert reply is not None
    assert (dict(reply.headers)[b"content-type"] == b"application/problem+json") is problem
    if problem:
        assert json.loads(reply.body) == {
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "detail": "Rate limit exceeded. Retry after 60 seconds.",
            "violated-policies": ["minute"],
        }


PREFLIGHT = {"origin": "https://a.example", "access_control_request_method": "GET"}


@pytest.mark.parametrize("fields", [{}, {"anonymous": Plan.of("anonymous", per_minute=1)}])
def test_preflight_hint(caplog: pytest.LogCaptureFixture, fields: Any) -> None:
    """The first refused preflight logs where the CORS middleware belongs; later ones log nothing."""
    client = Client(**fields)
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        client.status("/", "OPTIONS", origin="https://a.example")
        client.status("/", "GET", **PREFLIGHT)
        before = list(caplog.records)
        statuses = [client.status("/", "OPTIONS", **PREFLIGHT) for _ in range(3)]

    assert before == []
    assert statuses[-1] == (429 if fields else 401)
    assert [record.getMessage().count("CORS middleware outside") for record in caplog.records] == [1]


def test_preflights_must_be_bool() -> None:
    """`preflights` opens views to clients without a key, so it must be a bool."""
    with pytest.raises(InvalidLimit, match="preflights: expected true or false, got 'no'"):
        Client(preflights="no")


@pytest.mark.parametrize("fields", [{"headers": "drafts"}, {"websocket_refusal": "close"}, {"trusted_proxies": ["x"]}])
def test_invalid_option(fields: Any) -> None:
    """The error names the option and what is allowed."""
    with pytest.raises(InvalidLimit, match=f"{next(iter(fields))}: expected"):
        Client(**fields)
