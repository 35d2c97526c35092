"""A gate decides the plans of the key, its account, the service and the rules together."""

import json
import logging
import pickle
from enum import IntEnum
from typing import Any

import pytest
from tests.http.gate_client import Client

from awx_ratelimit import Budget, Caller, Gate, InvalidLimit, Plan, PlanTable, Rate, Request, Rule, StaticKeys
from awx_ratelimit.adapters.wsgi.middleware import Slot
from awx_ratelimit.http import settling
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.route_admission_sync import admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit

KEY = Plan.of("p", per_minute=60, account=Plan.of("p.account", per_minute=3, concurrent=5))
LOGIN = Plan.of("login", per_minute=3)
CALLERS = {
    "k1": Caller("k1", account="acme"),
    "k2": Caller("k2", account="acme"),
    "k3": Caller("k3", account="other"),
    "alone": Caller("alone"),
    "alone-2": Caller("alone-2"),
}


def identify(request: Request) -> Caller | None:
    return CALLERS.get(request.header("x-api-key") or "")


def client(plan: Plan = KEY, service: Plan | None = None, **fields: Any) -> Client:
    return Client(plans=PlanTable([plan], default=plan.name, service=service), identify=identify, **fields)


def refusing(admission: Admission) -> list[str]:
    """The names of the limits that have refused."""
    assert admission.decision is not None
    return [usage.limit for usage in admission.decision.usages if usage.refused]


def left(used: Client, subject: str, plan: Plan, scope: str | None = None) -> int:
    """The tokens that are left of the first rate of a plan."""
    return used.limiter.peek(subject, plan, scope=scope).usages[0].remaining


def test_keys_of_an_account() -> None:
    """All keys of an account share its plan; another account has its own."""
    used = client()
    statuses = [used.status(x_api_key=key) for key in ("k1", "k2", "k1", "k2", "k3")]

    assert statuses == [200, 200, 200, 429, 200]
    assert refusing(used.send(x_api_key="k2")) == ["account.minute"]


def test_refusal_of_the_account_charges_nothing() -> None:
    """A refusal by the account's plan leaves the key and everybody's plan as they were."""
    service = Plan.of("service", per_minute=100)
    used = client(service=service)
    for key in ("k1", "k2", "k2", "k2", "k2"):
        used.status(x_api_key=key)

    assert left(used, "k2", KEY) == 58
    assert left(used, "service", service, "service") == 97


def test_caller_without_an_account() -> None:
    """A caller without an account has the account's plan for itself alone."""
    used = client()

    assert [used.status(x_api_key="alone") for _ in range(4)] == [200, 200, 200, 429]
    assert used.status(x_api_key="alone-2") == 200


@pytest.mark.parametrize("rules", [[], [Rule("/**", budget="login", plan=LOGIN, per="account")]])
def test_caller_with_the_name_of_an_account(rules: list[Rule]) -> None:
    """A caller without an account uses up nothing of an account with the same name, in no budget."""
    callers = {"ada": Caller("ada", account="acme"), "acme": Caller("acme")}
    used = client(rules=rules)
    used.gate = Gate(
        used.limiter,
        plans=PlanTable([KEY], default=KEY.name),
        identify=lambda request: callers.get(request.header("x-api-key") or ""),
        rules=rules,
    )

    assert [used.status(x_api_key="acme") for _ in range(4)] == [200, 200, 200, 429]
    assert [used.status(x_api_key="ada") for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("scope", [None, "account"])
def test_reset_of_a_caller_without_an_account(scope: str | None) -> None:
    """A reset also clears what a caller has used as its own account, and nothing of others."""
    used = client()
    for key in ("alone", "alone", "alone", "alone-2", "alone-2", "alone-2"):
        used.status(x_api_key=key)

    used.limiter.reset("alone", scope=scope)
    assert used.status(x_api_key="alone") == 200
    assert used.status(x_api_key="alone-2") == 429


def test_service() -> None:
    """All callers share the service's plan, also those without a key."""
    used = client(
        Plan.of("p", per_minute=60), Plan.of("service", per_minute=3), anonymous=Plan.of("anon", per_minute=9)
    )
    statuses = [used.status(x_api_key="k1"), used.status(x_api_key="k3"), used.status(), used.status()]

    assert statuses == [200, 200, 200, 429]
    assert refusing(used.send(x_api_key="alone")) == ["service.minute"]


def test_service_of_the_gate() -> None:
    """The argument `service` of a gate replaces that of the table."""
    plans = PlanTable([KEY], default="p", service=Plan.of("service", per_minute=1))
    used = Client(plans=plans, identify=identify, service=Plan.of("s", per_minute=2))

    assert [used.status(x_api_key="k1") for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("service", [5, "service", Plan.of("s", per_day=5, account=LOGIN)])
def test_wrong_service(service: Any) -> None:
    """Anything but a plan without an account raises in the constructor."""
    with pytest.raises((TypeError, InvalidLimit), match=r"service: expected a"):
        Client(service=service)


def test_watched_service(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service of a watched table takes effect when the file changes."""
    path = tmp_path / "plans.toml"
    path.write_text('default = "a"\n[plans.a]\nper_day = 100\n')
    used = Client(plans=PlanTable.watch(path), identify=identify)
    before = used.send(x_api_key="k1")
    path.write_text('default = "a"\n[plans.a]\nper_day = 100\n[service]\nper_day = 7\n')
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    used.send(x_api_key="k1")

    after = used.send(x_api_key="k1")
    assert b"service" not in dict(before.headers)[b"ratelimit"]
    assert b'"service.day";r=' in dict(after.headers)[b"ratelimit"]


def test_headers() -> None:
    """Each limit is reported by its name with its scope, in the order of the budgets, the slots last within each."""
    rules = [Rule("/login", budget="login", plan=Plan.of("login", per_minute=5, concurrent=2))]
    used = client(service=Plan.of("service", per_second=50), rules=rules)

    headers = dict(used.send("/login", x_api_key="k1").headers)
    assert headers[b"ratelimit-policy"].decode() == (
        '"minute";q=60;w=60, "account.minute";q=3;w=60, "account.concurrent";q=5;qu="concurrent-requests", '
        '"service.second";q=50;w=1, "login.minute";q=5;w=60, "login.concurrent";q=2;qu="concurrent-requests"'
    )
    assert headers[b"ratelimit"].decode() == (
        '"minute";r=59;t=59, "account.minute";r=2;t=40, "account.concurrent";r=4, '
        '"service.second";r=49;t=1, "login.minute";r=4;t=48, "login.concurrent";r=1'
    )


def test_problem_document() -> None:
    """A problem document names the limits that refused by their names with their scopes."""
    used = client(rules=[Rule("/login", budget="login", plan=LOGIN)])
    for _ in range(3):
        used.status("/login", x_api_key="k1")

    reply = used.send("/login", x_api_key="k1", accept="application/problem+json").reply
    assert reply is not None
    assert json.loads(reply.body)["violated-policies"] == ["account.minute", "login.minute"]


def test_legacy_headers() -> None:
    """The legacy headers show the tightest of all limits."""
    used = client(headers="legacy", service=Plan.of("service", per_minute=2))

    assert [value for _, value in used.send(x_api_key="k1").headers] == [b"2", b"1", b"30"]


def test_impossible_cost() -> None:
    """A cost above the burst of the account is a 429 without a wait, which names that limit."""
    refusals: list[Any] = []
    used = client(
        rules=[Rule("/big", cost=lambda _: 4)], on_refused=lambda _, refusal: refusals.append(refusal), service=LOGIN
    )

    reply = used.send("/big", x_api_key="k1").reply
    assert reply is not None
    assert b"retry-after" not in dict(reply.headers)
    assert dict(reply.headers)[b"ratelimit-policy"].startswith(b'"minute";q=60;w=60, "account.minute";q=3;w=60, ')
    assert refusals[0].limits == ["account.minute", "service.minute"]


def test_cost_above_the_account() -> None:
    """A rule whose cost no account can pay raises in the constructor."""
    with pytest.raises(InvalidLimit, match=r"cost: expected at most 3, the largest burst of a plan, got 4"):
        client(rules=[Rule("/big", cost=4)])


@pytest.mark.parametrize(
    ("per", "requests", "statuses"),
    [
        ("caller", ["k1", "k1", "k1", "k1", "k2"], [200, 200, 200, 429, 200]),
        ("account", ["k1", "k2", "k1", "k2", "k3"], [200, 200, 200, 429, 200]),
        ("address", ["k1", "k2", "k3", "alone"], [200, 200, 200, 429]),
        ("everyone", ["k1", "k2", "k3", "alone"], [200, 200, 200, 429]),
        (lambda request: request.path, ["k1", "k2", "k3", "alone"], [200, 200, 200, 429]),
    ],
)
def test_per(per: Any, requests: list[str], statuses: list[int]) -> None:
    """`per` says whose the budget of a rule is."""
    used = client(Plan.of("p", per_minute=60), rules=[Rule("/login", budget="login", plan=LOGIN, per=per)])

    assert [used.status("/login", x_api_key=key) for key in requests] == statuses


def test_per_address_of_ipv6() -> None:
    """IPv6 clients of one network share a budget per address."""
    used = client(Plan.of("p", per_minute=60), rules=[Rule("/login", budget="login", plan=LOGIN, per="address")])
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8:0:1::1"]

    assert [used.status("/login", x_api_key="k1", client=each) for each in addresses] == [200, 200, 200, 429, 200]


def test_per_function_with_a_long_result() -> None:
    """A long result of `per` is kept as a digest, and two that differ at the end stay apart."""
    used = client(
        Plan.of("p", per_minute=60),
        rules=[Rule("/login", budget="login", plan=LOGIN, per=lambda request: request.header("x-name") or "")],
    )
    names = ["x" * 100_000 + end for end in ("a", "a", "a", "a", "b")]

    admissions = [used.send("/login", x_api_key="k1", x_name=name) for name in names]
    assert [admission.reply is None for admission in admissions] == [True, True, True, False, True]
    assert admissions[0].decision is not None
    assert all(len(usage.subject) < 100 for usage in admissions[0].decision.usages)


@pytest.mark.parametrize("result", [None, "", 5])
def test_per_function_with_a_wrong_result(result: Any) -> None:
    """A function `per` that returns no text raises TypeError."""
    used = client(rules=[Rule("/login", budget="login", plan=LOGIN, per=lambda _: result)])

    with pytest.raises(TypeError, match="per: expected a non-empty string as the result"):
        used.send("/login", x_api_key="k1")


REFUSING = PlanTable.from_mapping(
    {
        "default": "p",
        "plans": {"p": {"per_minute": 2, "account": {"per_minute": 4}, "refusal": {"body": "pay more"}}},
        "service": {"per_minute": 5},
    }
)


@pytest.mark.parametrize(
    ("keys", "body"),
    [(["k1"] * 3, True), (["k1", "k2"] * 2 + ["k4"], True), (["k1", "k3", "k2", "k3", "k1", "k5"], False)],
)
def test_refusal_text_of_a_plan(keys: list[str], body: bool) -> None:
    """The text of a plan answers a refusal by its own limits or its account's, not one by the service's."""
    callers = {f"k{n}": Caller(f"k{n}", account="odd" if n in (3, 5) else "even") for n in range(1, 6)}
    used = Client(plans=REFUSING, identify=lambda request: callers[request.header("x-api-key") or ""])

    *admitted, refused = [used.send(x_api_key=key).reply for key in keys]
    assert admitted == [None] * (len(keys) - 1)
    assert refused is not None
    assert (refused.body == b"pay more") is body


def test_refusal_text_of_a_route() -> None:
    """A route that is named like a plan, and a budget of a rule, have no text."""
    rules = [Rule("/rule", budget="p", plan=Plan.of("p", per_minute=1))]
    used = Client(plans=REFUSING, identify=identify, rules=rules)
    limit = RouteLimit("1/minute", scope="p")
    replies = [
        admit_to_route(limit, "p", Request("GET", "/", None, lambda _: [b"alone"]), {}, used.gate, []).reply
        for _ in range(2)
    ]
    replies += [used.send("/rule", x_api_key="k1").reply for _ in range(2)]

    assert [reply and reply.body.startswith(b'{"code"') for reply in replies] == [None, True, None, True]


def test_two_budgets_of_one_path() -> None:
    """A path that may mean two rules is charged by both budgets, each for its owner."""
    rules = [
        Rule("/a/**", budget="a", plan=LOGIN, per="everyone"),
        Rule("/b", budget="b", plan=LOGIN, per="address"),
    ]
    used = client(rules=rules)

    decision = used.send("/a/../b", x_api_key="k1").decision
    assert decision is not None
    owners = {usage.scope: usage.subject for usage in decision.usages}
    assert owners == {None: "k1", "account": "acme", "a": "everyone", "b": "address:192.0.2.1"}


def test_one_budget_of_two_owners() -> None:
    """Two rules with one budget and different owners raise, because a path that means both would escape one."""
    rules = [Rule("/a", budget="login", plan=LOGIN), Rule("/b", budget="login", plan=LOGIN, per="everyone")]

    with pytest.raises(InvalidLimit, match=r"Rule\('/b'\): per: expected 'caller' \(str\), as in the other rule"):
        client(rules=rules)


def test_slots_of_a_budget() -> None:
    """The slots of all budgets are taken together and come back together."""
    slots = Plan.of("upload", concurrent=1)
    used = client(rules=[Rule("/upload", budget="upload", plan=slots, per="everyone")])
    first = used.send("/upload", x_api_key="k1")
    second = used.send("/upload", x_api_key="k3")
    assert first.decision is not None
    used.gate.release(first.decision)

    assert first.reply is None
    assert refusing(second) == ["upload.concurrent"]
    assert used.status("/upload", x_api_key="k3") == 200
    assert left(used, "acme", KEY.account or KEY, "account") == 2


TOKENS = PlanTable.from_mapping(
    {
        "default": "llm",
        "plans": {
            "llm": {"per_minute": 60, "rates": [{"limit": 1_000, "per": "minute", "measure": "tokens"}]},
        },
        "service": {"per_month": {"limit": 100_000, "measure": "tokens"}, "per_week": 9_000},
    }
)


@pytest.mark.parametrize("cost", [{"requests": 1, "tokens": 800}, lambda _: {"requests": 1, "tokens": 800}])
def test_cost_by_measure(cost: Any) -> None:
    """A rule may cost several measures, or a function may return them."""
    used = Client(plans=TOKENS, identify=identify, rules=[Rule("/chat", cost=cost)])

    first, second = used.send("/chat", x_api_key="k1"), used.send("/chat", x_api_key="k1")
    assert dict(first.headers)[b"ratelimit-policy"].decode() == (
        '"minute";q=60;w=60, "tokens-minute";q=1000;qu="tokens";w=60, '
        '"service.week";q=9000;w=604800, "service.tokens-month";q=100000;qu="tokens"'
    )
    assert b'"minute";r=59;t=59, "tokens-minute";r=200;t=12, ' in dict(first.headers)[b"ratelimit"]
    assert b'"service.tokens-month";r=99200;t=' in dict(first.headers)[b"ratelimit"]
    assert refusing(second) == ["tokens-minute"]


def test_misspelt_measure(caplog: pytest.LogCaptureFixture) -> None:
    """A cost in a measure that no plan, service or budget counts is one warning when the gate is made."""
    rules = [
        Rule("/chat", cost={"requests": 1, "token": 800}),
        Rule(
            "/images",
            cost={"images": 1},
            budget="images",
            plan=Plan("i", (Rate("day", 5, 86_400_000, measure="images"),)),
        ),
        Rule("/tokens", cost={"tokens": 5}),
    ]
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        Client(plans=TOKENS, identify=identify, rules=rules)

    assert [record.getMessage() for record in caplog.records] == [
        "Rule('/chat'): cost: expected measures that a limit counts ('images', 'requests', 'tokens'), got 'token', "
        "which charges nothing"
    ]


def test_misspelt_measure_of_a_request(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and a settlement that name a measure that nothing counts cause one warning for all requests."""
    for settled in (False, True):
        monkeypatch.setattr(settling, "_is_measure_logged", False)
        caplog.clear()
        cost = {"requests": 1, "tokens" if settled else "tokenz": 1}
        used = Client(plans=TOKENS, identify=identify, rules=[Rule("/chat", cost=lambda _: cost)])  # noqa: B023
        for _ in range(3):
            admission = used.send("/chat", x_api_key="k1")
            slot = Slot(used.gate, [], admission.decision)
            slot.note({"tokenz" if settled else "tokens": 5})
            slot.close()

        assert [record.getMessage() for record in caplog.records] == [
            "cost: expected measures that a limit counts, got 'tokenz', which charges nothing"
        ]


def test_misspelt_measure_of_a_route() -> None:
    """A limit of a route with a cost that it does not count raises."""
    with pytest.raises(InvalidLimit, match="cost: expected 'requests', which the limit counts, got 'tokens'"):
        RouteLimit("10/minute", cost={"requests": 1, "tokens": 5})


@pytest.mark.parametrize(("plan", "keys"), [(KEY, 1), (Plan.of("p", per_minute=60), 0)])
def test_static_keys_without_an_account(caplog: pytest.LogCaptureFixture, plan: Plan, keys: int) -> None:
    """Static keys without an account are one warning if their plan has limits of accounts."""
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        Client(
            plans=PlanTable([plan], default="p"),
            identify=StaticKeys({"a": "p", "b": "p", "c": Caller("ada", account="acme")}),
        )

    assert [record.getMessage() for record in caplog.records] == [
        "each key without an account has the `account` limits of the plan 'p' to itself; write "
        "Caller('ada', 'p', account='acme') for each key: see docs/organisations.md#in-an-app"
    ][:keys]


class Cost(IntEnum):
    """A cost with a name."""

    UPLOAD = 2


@pytest.mark.parametrize("cost", [Cost.UPLOAD, {"requests": Cost.UPLOAD}])
def test_named_cost(cost: Any) -> None:
    """A member of an IntEnum is a cost like any other, in rules, in functions, in routes and in claims."""
    rules = [Rule("/a", cost=cost), Rule("/b", cost=lambda _: cost)]
    used = client(Plan.of("p", per_minute=60), rules=rules)
    limit = RouteLimit("10/minute", scope="route", cost=cost)
    request = Request("GET", "/", None, lambda _: [b"k1"])
    statuses = [used.status(path, x_api_key="k1") for path in ("/a", "/b")]
    routed = admit_to_route(limit, "route", request, {}, used.gate, [])
    decision = used.limiter.acquire("k1", Plan.of("p", per_minute=60), cost)
    used.limiter.settle(decision, cost)

    assert statuses == [200, 200]
    assert routed.decision is not None
    assert routed.decision.usages[0].remaining == 8
    assert left(used, "k1", Plan.of("p", per_minute=60)) == 54


def test_measures_that_a_request_does_not_cost() -> None:
    """Rates of other measures are reported as they are now, and do not refuse, even in debt."""
    used = Client(plans=TOKENS, identify=identify, rules=[Rule("/chat", cost={"tokens": 1_000})])
    used.send("/chat", x_api_key="k1")
    used.clock.advance(30_000)

    other = used.send("/other", x_api_key="k1")
    assert other.reply is None
    assert b'"minute";r=59;t=59, "tokens-minute";r=500;t=30, ' in dict(other.headers)[b"ratelimit"]


def test_overdraft() -> None:
    """A limit in an overdraft has nothing left, and `t` is the wait for its next token."""
    used = Client(plans=TOKENS, identify=identify, rules=[Rule("/chat", cost={"tokens": 1_000})])
    chat = used.send("/chat", x_api_key="k1")
    assert chat.decision is not None
    used.limiter.settle(chat.decision, {"tokens": 1_500})

    assert b'"tokens-minute";r=0;t=31' in dict(used.send("/other", x_api_key="k1").headers)[b"ratelimit"]


def test_plain_decisions_are_plain() -> None:
    """A request that needs no joint claim is decided without one."""
    used = client(Plan.of("p", per_minute=60), rules=[Rule("/login", budget="login", plan=LOGIN)])

    assert type(used.send("/", x_api_key="k1").decision).__name__ == "Decision"
    assert type(used.send("/login", x_api_key="k1").decision).__name__ == "JointDecision"


def test_shadow_budgets() -> None:
    """A budget in shadow refuses nothing and is not shown."""
    shadow = Plan.of("login", per_minute=1, shadow=True)
    used = client(rules=[Rule("/login", budget="login", plan=shadow)])
    used.send("/login", x_api_key="k1")

    second = used.send("/login", x_api_key="k1")
    assert second.reply is None
    assert b"login" not in dict(second.headers)[b"ratelimit"]
    assert used.limiter.health()["shadow_refusals"] == {"p": {"login.minute": 1}}


def test_pickled_rule() -> None:
    """A rule is equal after pickling, with all its options."""
    rule = Rule("/login", budget="b", plan=LOGIN, per="address", charge_on=[401], wait_ms=5, max_waiting=7)

    loaded = pickle.loads(pickle.dumps(rule))
    assert loaded == rule
    assert (loaded.per, loaded.charge_on, loaded.wait_ms, loaded.max_waiting) == ("address", {401}, 5, 7)


def test_budgets_are_those_of_the_limiter() -> None:
    """`peek` with the same budgets shows what a request has used."""
    used = client()
    used.status(x_api_key="k1")

    peeked = used.limiter.peek("k1", KEY, also=[Budget("acme", KEY.account or KEY, scope="account")])
    assert [(usage.limit, usage.remaining) for usage in peeked.usages] == [
        ("minute", 59), ("account.minute", 2), ("account.concurrent", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "plan",
    [
        Plan.of("login", per_minute=30),
        Plan.of("login", per_hour=3),
        Plan.of("login", concurrent=50),
        Plan.of("login", per_minute=3, concurrent=5),
        Plan("login", LOGIN.rates, shadow=True),
    ],
)
def test_one_budget_of_two_plans(plan: Plan) -> None:
    """Two rules with one budget and different plans raise, because a path that means both would escape one."""
    rules = [Rule("/login", budget="login", plan=LOGIN), Rule("/up/{id}", budget="login", plan=plan)]

    with pytest.raises(InvalidLimit, match=r"Rule\('/up/\{id\}'\): plan: expected the plan of the other rule"):
        client(rules=rules)


def test_one_budget_of_two_rules() -> None:
    """Two rules with one budget share it, and a path that means both is charged once, whatever the status."""
    rules = [
        Rule("/login", budget="login", plan=LOGIN, charge_on={401}),
        Rule("/token/**", budget="login", plan=Plan.of("login", per_minute=3)),
    ]
    used = client(Plan.of("p", per_minute=60), rules=rules)

    decision = used.send("/token/../login", x_api_key="k1").decision
    assert decision is not None
    assert [(usage.limit, usage.remaining) for usage in decision.usages] == [("minute", 59), ("login.minute", 2)]
    used.gate.settle(decision, 200, {})
    assert left(used, "k1", LOGIN, "login") == 2


def test_all_statuses_of_two_rules() -> None:
    """A path that may mean two rules with one budget is charged for the statuses of both."""
    rules = [
        Rule(path, budget="login", plan=LOGIN, charge_on={status}) for path, status in (("/a/**", 401), ("/b", 403))
    ]
    used = client(Plan.of("p", per_minute=60), rules=rules)
    for status in (200, 401, 403):
        decision = used.send("/a/../b", x_api_key="k1").decision
        assert decision is not None
        used.gate.settle(decision, status, {})

    assert left(used, "k1", LOGIN, "login") == 1


def test_crafted_paths() -> None:
    """A path that may mean several rules is charged by the budget of each."""
    rules = [
        Rule("/login/**", budget="login", plan=LOGIN, per="address"),
        Rule("/token/**", budget="token", plan=Plan.of("token", per_minute=100), per=lambda request: request.path),
    ]
    used = client(Plan.of("p", per_minute=60), rules=rules)
    paths = ["/token/../login/x", "/token/%2e%2e/login/x", "/token/..;/login/x", "/token/..%2flogin/x"]

    assert [used.status(path, x_api_key="k1") for path in paths] == [200, 200, 200, 429]
