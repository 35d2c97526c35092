"""What a gate's fields do: budgets, nobody's plan, unknown keys, dialects, problem documents."""

import json
import logging
import tracemalloc
from typing import Any

import pytest

from awx_ratelimit import Caller, Gate, InvalidLimit, KeyRefused, Limiter, MemoryBackend, Plan, PlanTable, Request, Rule
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.unknown_keys import UNKNOWN_KEYS
from awx_ratelimit.testing import ManualClock

PLANS = PlanTable([Plan.of("p", per_minute=60, concurrent=2)], default="p")


class Client:
    """Sends requests to a gate and counts how often somebody was looked up."""

    def __init__(self, **fields: Any) -> None:
        self.looked_up = 0
        self.clock = ManualClock(1_000_000)
        self.limiter = Limiter(MemoryBackend(clock=self.clock))
        self.gate = Gate(self.limiter, **{"plans": PLANS, "identify": self._identify, **fields})

    def _identify(self, request: Request) -> Caller | None:
        self.looked_up += 1
        key = request.header("X-API-Key")
        if key and key.startswith("wrong"):
            raise KeyRefused
        return Caller(key) if key else None

    def send(self, path: str = "/", method: str = "GET", client: str | None = "192.0.2.1", **headers: str) -> Admission:
        lines = {name.replace("_", "-"): value.encode("latin-1") for name, value in headers.items()}
        values = lambda name: [lines[name.decode()]] if name.decode() in lines else []  # noqa: E731  # a header look-up
        return self.gate.admit(Request(method, path, client, values))

    def status(self, *arguments: Any, **headers: Any) -> int:
        admission = self.send(*arguments, **headers)
        self.gate.release(admission.decision) if admission.decision else None
        return admission.reply.status if admission.reply else 200


def test_a_budget_and_the_plan_are_one_decision() -> None:
    """A path with a budget is charged to both in one claim; what the budget refuses costs the plan nothing."""
    client = Client(rules=[Rule("/login", methods=["POST"], budget="login", plan=Plan.of("login", per_minute=3))])
    statuses = [client.status("/login", "POST", x_api_key="k") for _ in range(5)]

    admission = client.send("/", x_api_key="k")
    refused = client.send("/login", "POST", x_api_key="k")
    assert statuses == [200] * 3 + [429] * 2
    assert (admission.decision and admission.decision.usages[0].remaining) == 56
    assert refused.decision is not None
    assert [usage.limit for usage in refused.decision.usages if usage.refused] == ["login.minute"]


def test_a_budget_outlives_the_requests_that_do_not_name_it() -> None:
    """Other requests in between do not clear what a budget owes."""
    client = Client(rules=[Rule("/login", budget="login", plan=Plan.of("login", per_minute=3))])
    paths = ["/login", "/", "/login", "/", "/login", "/", "/login"]

    assert [client.status(path, x_api_key="k") for path in paths] == [200] * 6 + [429]


@pytest.mark.parametrize("path", ["//login", "/login/", "/login//"])
def test_slashes_are_no_way_around_a_budget(path: str) -> None:
    """A budget also covers doubled and trailing slashes."""
    client = Client(rules=[Rule("/login", budget="login", plan=Plan.of("login", per_minute=1))])

    assert [client.status("/login", x_api_key="k"), client.status(path, x_api_key="k")] == [200, 429]


def test_a_budget_beside_a_plan_in_shadow_refuses() -> None:
    """A plan in shadow does not take a budget with it."""
    plans = PlanTable([Plan.of("p", per_minute=1, shadow=True)], default="p")
    client = Client(plans=plans, rules=[Rule("/login", budget="b", plan=Plan.of("login", per_minute=2))])

    assert [client.status("/login", x_api_key="k") for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": "b"},
        {"plan": Plan.of("p", per_minute=1)},
        {"budget": "B", "plan": Plan.of("p", per_minute=1)},
        {"budget": "b" * 30, "plan": Plan.of("p", per_minute=1)},
        {"budget": "b", "plan": Plan.of("p", per_minute=1, concurrent=1)},
        {"budget": "b", "plan": Plan.of("p", per_minute=1), "exempt": True},
        {"exempt": True, "cost": 5},
    ],
)
def test_a_wrong_budget_is_refused_when_it_is_made(fields: Any) -> None:
    """A budget without a name or a plan, with slots, or of an exempt path is an InvalidLimit."""
    with pytest.raises(InvalidLimit, match=r"Rule\('/login'\)"):
        Rule("/login", **fields)


def test_cost_0_takes_a_slot_and_no_token() -> None:
    """A rule of cost 0 counts against the slots alone, and its headers still say how the rates stand."""
    client = Client(rules=[Rule("/poll", cost=0)])
    held = [client.send("/poll", x_api_key="k") for _ in range(2)]

    third = client.send("/poll", x_api_key="k")
    assert third.reply is not None
    assert held[0].headers[1][1] == b'"minute";r=60;t=60, "concurrent";r=1'
    assert third.reply.status == 429
    assert (held[0].decision and held[0].decision.usages[0].remaining) == 60


def test_who_sends_no_key_is_a_401_or_limited_by_address() -> None:
    """Without a plan for nobody the answer is a 401; with one, each address has its own budget."""
    anonymous = Client(anonymous=Plan.of("anonymous", per_minute=2))
    statuses = [anonymous.status() for _ in range(3)]

    assert Client().status() == 401
    assert statuses == [200, 200, 429]
    assert anonymous.status(client="192.0.2.2") == 200


def test_a_forwarded_header_does_not_make_a_new_address() -> None:
    """Nobody escapes a limit by address with an X-Forwarded-For of its own."""
    client = Client(anonymous=Plan.of("anonymous", per_minute=2))

    assert [client.status(x_forwarded_for=f"198.51.100.{n}") for n in range(4)] == [200, 200, 429, 429]


def test_an_address_that_guesses_keys_is_refused_unheard() -> None:
    """After 20 unknown keys in a minute an address gets a 429 before any look-up, until its wait is over."""
    client = Client()
    statuses = [client.status(x_api_key="wrong") for _ in range(20)]
    first = client.send(x_api_key="wrong")
    looked_up = client.looked_up
    stopped = client.send(x_api_key="right")
    unheard = client.looked_up == looked_up
    elsewhere = client.status(x_api_key="right", client="192.0.2.99")
    client.clock.advance(3_000)

    assert statuses == [401] * 20
    assert (first.reply and first.reply.status) == 429
    assert stopped.reply is not None
    assert stopped.reply.status == 429
    assert dict(stopped.reply.headers)[b"retry-after"] == b"3"
    assert unheard is True
    assert elsewhere == 200
    assert client.status(x_api_key="right") == 200


def test_a_proxy_that_nobody_named_is_pointed_out_once(caplog: pytest.LogCaptureFixture) -> None:
    """When an address that forwards for others is refused for guessing, the log says what to configure, once."""
    client = Client()
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        for _ in range(25):
            client.send(x_api_key="wrong", x_forwarded_for="203.0.113.9")

    assert [record.getMessage().count("name it in trusted_proxies") for record in caplog.records] == [1]


def test_a_request_without_a_key_is_no_guess() -> None:
    """An address that is refused for guessing may still be nobody, whose limit is another one."""
    client = Client(anonymous=Plan.of("anonymous", per_minute=2))
    for _ in range(25):
        client.status(x_api_key="wrong")

    assert client.status() == 200
    assert client.status(x_api_key="k") == 429


def test_many_guessing_addresses_do_not_grow_memory_without_bound() -> None:
    """What is remembered of addresses that guess is bounded, and each is still stopped."""
    client = Client()
    for number in range(12_000):
        client.send(client=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", x_api_key="wrong")

    assert len(client.gate._policy.unknown_keys.addresses) <= 10_000


def test_a_flood_of_unknown_keys_leaves_no_trace_of_them() -> None:
    """What is remembered grows with the addresses that guess, never with the keys they send."""
    client = Client()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(20_000):
        client.send(x_api_key=f"wrong-{number}", client=f"10.0.0.{number % 50}")
    grown_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert grown_bytes < 500_000
    assert len(client.gate._policy.unknown_keys.addresses) == 50


def test_an_address_that_guesses_no_more_is_forgotten() -> None:
    """Once nothing is owed, an address is no suspect any more."""
    client = Client()
    client.send(x_api_key="wrong")
    client.clock.advance(60_000)
    client.send(x_api_key="right")

    assert list(client.gate._policy.unknown_keys.addresses) == []


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
def test_each_dialect_has_its_lines(dialect: Any, names: list[bytes]) -> None:
    """A dialect's lines stand on admitted and refused answers alike, and are what the adapters replace."""
    client = Client(headers=dialect, plans=PlanTable([Plan.of("p", per_minute=1)], default="p"))
    admitted, refused = client.send(x_api_key="k"), client.send(x_api_key="k")

    assert refused.reply is not None
    assert [name for name, _ in admitted.headers] == names
    assert [name for name, _ in refused.reply.headers][4:] == names
    assert client.gate.header_names == frozenset(names)


def test_the_legacy_lines_are_of_the_tightest_limit() -> None:
    """The limit with the least left is the one that is told, with the seconds until it is full."""
    plans = PlanTable([Plan.of("p", per_minute=60, per_day=3, concurrent=5)], default="p")
    client = Client(headers="legacy", plans=plans)

    assert [value for _, value in client.send(x_api_key="k").headers] == [b"3", b"2", b"28800"]


def test_a_refusal_by_slots_is_told_in_the_legacy_lines() -> None:
    """When the slots refuse, they are the tightest."""
    client = Client(headers="legacy")
    refused = [client.send(x_api_key="k") for _ in range(3)][-1]

    assert refused.reply is not None
    assert refused.reply.headers[4:] == [
        (b"x-ratelimit-limit", b"2"), (b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", b"0"),
    ]  # fmt: skip


def test_exposed_names_are_told_to_browsers() -> None:
    """With `expose` a line names what a script of another origin may read, on both kinds of answer."""
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
def test_a_client_that_prefers_a_problem_document_gets_one(accept: str, problem: bool) -> None:
    """The refusal is RFC 9457 for who wants that more than plain JSON, and names the limits that refused."""
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
def test_a_refused_preflight_logs_a_hint_once(caplog: pytest.LogCaptureFixture, fields: Any) -> None:
    """The first preflight that a gate refuses logs how to mount the CORS middleware; later ones log nothing."""
    client = Client(**fields)
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        client.status("/", "OPTIONS", origin="https://a.example")
        client.status("/", "GET", **PREFLIGHT)
        before = list(caplog.records)
        statuses = [client.status("/", "OPTIONS", **PREFLIGHT) for _ in range(3)]

    assert before == []
    assert statuses[-1] == (429 if fields else 401)
    assert [record.getMessage().count("CORS middleware outside") for record in caplog.records] == [1]


def test_preflights_must_be_a_flag() -> None:
    """`preflights` opens views to clients without a key, so only True means True."""
    with pytest.raises(InvalidLimit, match="preflights: expected true or false, got 'no'"):
        Client(preflights="no")


@pytest.mark.parametrize("fields", [{"headers": "drafts"}, {"websocket_refusal": "close"}, {"trusted_proxies": ["x"]}])
def test_a_wrong_field_is_an_error_when_the_gate_is_made(fields: Any) -> None:
    """A gate says what is allowed."""
    with pytest.raises(InvalidLimit, match=f"{next(iter(fields))}.*allowed"):
        Client(**fields)


def test_the_limit_on_unknown_keys_is_the_contracts() -> None:
    """More than 20 unknown keys a minute are too many."""
    assert [(rate.tokens, rate.period_ms) for rate in UNKNOWN_KEYS.rates] == [(20, 60_000)]
