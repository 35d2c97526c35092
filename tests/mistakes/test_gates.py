"""Wrong arguments of gates."""

import asyncio
from typing import Any

import pytest
from tests.mistakes.cases import Mistake, assert_refused, async_gate, each, plan, sync_gate

from awx_ratelimit import Caller, InvalidLimit, Plan, PlanTable, Request, Rule, StaticKeys

REQUEST = Request("GET", "/", "192.0.2.1", lambda _: [])
LARGE = Plan.of("large", per_minute=500)
SHADOW = Plan.of("shadow", per_minute=5, shadow=True)
OVERRIDDEN = PlanTable([plan], overrides={"acct_acme": {"per_minute": 500}})

MISTAKES: list[Mistake] = [
    (
        "AsyncGate(limiter, plans=table, identify=keys)",
        TypeError,
        "AsyncGate needs an AsyncLimiter, not a Limiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(async_limiter, plans=table, identify=keys)",
        TypeError,
        "Gate needs a Limiter, not an AsyncLimiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(MemoryBackend(), plans=table, identify=keys)",
        TypeError,
        "Gate needs a Limiter, not a MemoryBackend; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(Limiter, plans=table, identify=keys)",
        TypeError,
        "Gate needs a Limiter, not the class Limiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "AsyncGate(None, plans=table, identify=keys)",
        TypeError,
        "AsyncGate needs an AsyncLimiter, not None; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        'sync_gate(plans={"starter": plan})',
        TypeError,
        'plans is a dict; write plans=PlanTable([plan], default="starter"), or PlanTable.from_mapping({"plans": ...})',
    ),
    (
        "sync_gate(plans=plan)",
        TypeError,
        "plans is a Plan; write plans=PlanTable([plan], default=plan.name)",
    ),
    (
        "sync_gate(plans=[plan])",
        TypeError,
        'plans is a list; write plans=PlanTable(plans, default="starter")',
    ),
    (
        'sync_gate(plans="plans.toml")',
        TypeError,
        "plans is a str; write plans=PlanTable.from_toml(path)",
    ),
    (
        "sync_gate(plans=PlanTable.default)",
        TypeError,
        "plans is the function PlanTable.default; call it: plans=PlanTable.default()",
    ),
    (
        "async_gate(plans=PlanTable)",
        TypeError,
        "plans is the class PlanTable; write plans=PlanTable.default()",
    ),
    (
        "sync_gate(plans=None)",
        TypeError,
        "plans is None; write plans=PlanTable.default()",
    ),
    (
        'sync_gate(rules=["/health"])',
        TypeError,
        "rules[0] is '/health' (str); write Rule('/health', ...)",
    ),
    (
        'sync_gate(rules="/health")',
        TypeError,
        "rules is '/health' (str); write rules=[Rule('/health', ...)]",
    ),
    (
        'sync_gate(rules=Rule("/health", exempt=True))',
        TypeError,
        "rules is a Rule; write rules=[Rule(...)], a list",
    ),
    (
        'sync_gate(rules={"/health": 1})',
        TypeError,
        "rules is a dict; write rules=[Rule(...)], a list",
    ),
    (
        "sync_gate(rules=None)",
        TypeError,
        "rules is None (NoneType); write rules=[Rule(...)], a list",
    ),
    (
        "sync_gate(rules=[Rule])",
        TypeError,
        "rules[0] is the class Rule; write Rule(path, ...)",
    ),
    (
        'sync_gate(rules=[Rule("/export", cost=301)])',
        InvalidLimit,
        "Rule('/export'): cost is 301, and no plan ever has more than 300 tokens at once; lower the "
        "cost, or give a plan a burst of at least 301",
    ),
    (
        "sync_gate(identify=StaticKeys)",
        TypeError,
        'identify is the class StaticKeys; create an instance: identify=StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "sync_gate(identify=StoredKeys)",
        TypeError,
        "identify is the class StoredKeys; create an instance: identify=StoredKeys(KeyVerifier(store))",
    ),
    (
        'sync_gate(identify={"awx_example_key": "starter"})',
        TypeError,
        "identify is a dict; write identify=StaticKeys(...) around it",
    ),
    (
        "sync_gate(identify=None)",
        TypeError,
        "identify is None; use a function that takes the request and returns a Caller or None, or "
        'StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        'sync_gate(identify="awx_example_key")',
        TypeError,
        "identify is a str; use a function that takes the request and returns a Caller or None, or "
        'StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "sync_gate(identify=no_parameters)",
        TypeError,
        "identify takes (); it is called with the request alone: write `def identify(request):`",
    ),
    (
        "async_gate(identify=two_parameters)",
        TypeError,
        "identify takes (request, database); it is called with the request alone: write `def identify(request):`",
    ),
    (
        "sync_gate(identify=async_identify)",
        TypeError,
        "identify is asynchronous, which Gate cannot wait for; write it with `def`, or use AsyncGate",
    ),
    (
        'sync_gate(anonymous="starter")',
        TypeError,
        "anonymous is 'starter' (str); use a Plan such as Plan.of(\"anonymous\", per_minute=10), or None",
    ),
    (
        "sync_gate(anonymous=True)",
        TypeError,
        'anonymous is True (bool); use a Plan such as Plan.of("anonymous", per_minute=10), or None',
    ),
    (
        'sync_gate(trusted_proxies="10.0.0.0/8")',
        InvalidLimit,
        "trusted_proxies is a string; write trusted_proxies=['10.0.0.0/8']",
    ),
    (
        "sync_gate(trusted_proxies=None)",
        InvalidLimit,
        "trusted_proxies is None (NoneType); write trusted_proxies=['10.0.0.0/8']",
    ),
    (
        "sync_gate(trusted_proxies=[10])",
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got 10 (int)",
    ),
    (
        'sync_gate(trusted_proxies=["10.0.0.1/8"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix': 10.0.0.1/8 has host bits set",
    ),
    (
        'sync_gate(headers="Draft")',
        InvalidLimit,
        "headers: expected one of 'draft', 'legacy', 'both', 'none', got 'Draft'",
    ),
    (
        'sync_gate(expose="yes")',
        InvalidLimit,
        "expose: expected true or false, got 'yes'",
    ),
    (
        "sync_gate(preflights=1)",
        InvalidLimit,
        "preflights: expected true or false, got 1",
    ),
    (
        'sync_gate(websocket_refusal="close")',
        InvalidLimit,
        "websocket_refusal: expected one of 'http', 'accept_close', got 'close'",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A gate with a wrong argument is refused when it is created."""
    assert_refused(mistake)


@pytest.mark.parametrize("returned", ["awx_example_key", False, "", 0, ("user_1", "starter"), Caller])
def test_identify_returns_something_else(returned: Any) -> None:
    """If identify returns neither a Caller nor None, both gates raise a TypeError that names only the type."""
    error = r"^identify returned (a|an|the class) \w+; return a Caller, or None for a request without a key$"

    async def identify(_: Request) -> Any:
        return returned

    with pytest.raises(TypeError, match=error):
        sync_gate(identify=lambda _: returned).admit(REQUEST)
    with pytest.raises(TypeError, match=error):
        asyncio.run(async_gate(identify=identify).admit(REQUEST))


@pytest.mark.parametrize(
    "arguments",
    [
        {"plans": PlanTable([plan, LARGE])},
        {"plans": PlanTable([plan, SHADOW])},
        {"plans": PlanTable([plan, Plan.of("slots", concurrent=5)])},
        {"plans": OVERRIDDEN},
        {"anonymous": LARGE},
        {"identify": StaticKeys({"awx_example_key": LARGE})},
        {"identify": StaticKeys({"awx_example_key": Caller("u", "api", overrides={"per_minute": 500})})},
        {"plans": PlanTable([])},
    ],
)
def test_cost_that_one_plan_can_pay(arguments: dict[str, Any]) -> None:
    """A rule is accepted if any plan, override, known caller or anonymous caller could ever pay its cost."""
    rules = [Rule("/export", cost=500)]

    gate = sync_gate(**{"plans": PlanTable([plan]), "identify": lambda _: None, "rules": rules} | arguments)

    assert not gate.is_exempt("GET", "/export")
