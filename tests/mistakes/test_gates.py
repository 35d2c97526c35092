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
        "limiter: expected an AsyncLimiter, got a Limiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(async_limiter, plans=table, identify=keys)",
        TypeError,
        "limiter: expected a Limiter, got an AsyncLimiter; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(MemoryBackend(), plans=table, identify=keys)",
        TypeError,
        "limiter: expected a Limiter, got a MemoryBackend; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "Gate(Limiter, plans=table, identify=keys)",
        TypeError,
        "limiter: expected a Limiter, got the class Limiter; write Gate(Limiter(backend), ...) for WSGI "
        "or AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        "AsyncGate(None, plans=table, identify=keys)",
        TypeError,
        "limiter: expected an AsyncLimiter, got None; write Gate(Limiter(backend), ...) for WSGI or "
        "AsyncGate(AsyncLimiter(backend), ...) for ASGI",
    ),
    (
        'sync_gate(plans={"starter": plan})',
        TypeError,
        'plans: expected a PlanTable, got a dict; write plans=PlanTable([plan], default="starter"), or '
        'PlanTable.from_mapping({"plans": ...})',
    ),
    (
        "sync_gate(plans=plan)",
        TypeError,
        "plans: expected a PlanTable, got a Plan; write plans=PlanTable([plan], default=plan.name)",
    ),
    (
        "sync_gate(plans=[plan])",
        TypeError,
        'plans: expected a PlanTable, got a list; write plans=PlanTable(plans, default="starter")',
    ),
    (
        'sync_gate(plans="plans.toml")',
        TypeError,
        "plans: expected a PlanTable, got a str; write plans=PlanTable.from_toml(path)",
    ),
    (
        "sync_gate(plans=PlanTable.default)",
        TypeError,
        "plans: expected a PlanTable, got the function PlanTable.default; write plans=PlanTable.default() if it "
        "returns the plans. For a plan that depends on the request, write identify=function: it returns "
        "Caller(subject, plan)",
    ),
    (
        "async_gate(plans=PlanTable)",
        TypeError,
        "plans: expected a PlanTable, got the class PlanTable; write plans=PlanTable.default()",
    ),
    (
        "sync_gate(plans=None)",
        TypeError,
        "plans: expected a PlanTable, got None; write plans=PlanTable.default()",
    ),
    (
        'sync_gate(rules=["/health"])',
        TypeError,
        "rules[0]: expected a Rule, got '/health' (str); write Rule(path, ...)",
    ),
    (
        'sync_gate(rules="/health")',
        TypeError,
        "rules: expected a list, got '/health' (str); write rules=[Rule(path, ...)]",
    ),
    (
        'sync_gate(rules=Rule("/health", exempt=True))',
        TypeError,
        "rules: expected a list, got a Rule; write rules=[Rule(path, ...)]",
    ),
    (
        'sync_gate(rules={"/health": 1})',
        TypeError,
        "rules: expected a list, got a dict; write rules=[Rule(path, ...)]",
    ),
    (
        "sync_gate(rules=None)",
        TypeError,
        "rules: expected a list, got None (NoneType); write rules=[Rule(path, ...)]",
    ),
    (
        "sync_gate(rules=[Rule])",
        TypeError,
        "rules[0]: expected a Rule, got the class Rule; write Rule(path, ...)",
    ),
    (
        'sync_gate(rules=[Rule("/export", cost=301)])',
        InvalidLimit,
        "Rule('/export'): cost: expected at most 300, the largest burst of a plan, got 301; lower the "
        "cost or raise a burst",
    ),
    (
        "sync_gate(identify=StaticKeys)",
        TypeError,
        "identify: expected a function from a request to a Caller or None, got the class StaticKeys; "
        'write identify=StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "sync_gate(identify=StoredKeys)",
        TypeError,
        "identify: expected a function from a request to a Caller or None, got the class StoredKeys; "
        "write identify=StoredKeys(KeyVerifier(store))",
    ),
    (
        'sync_gate(identify={"awx_example_key": "starter"})',
        TypeError,
        "identify: expected a function from a request to a Caller or None, got a dict; write "
        'identify=StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "sync_gate(identify=None)",
        TypeError,
        "identify: expected a function from a request to a Caller or None, got None; write "
        'identify=StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        'sync_gate(identify="awx_example_key")',
        TypeError,
        "identify: expected a function from a request to a Caller or None, got a str; write "
        'identify=StaticKeys({"awx_example_key": "starter"})',
    ),
    (
        "sync_gate(identify=no_parameters)",
        TypeError,
        "identify: expected a function from a request to a Caller or None, got the function "
        "no_parameters; write `def identify(request):`",
    ),
    (
        "async_gate(identify=two_parameters)",
        TypeError,
        "identify: expected a function from a request to a Caller or None, got the function "
        "two_parameters; write `def identify(request):`",
    ),
    (
        "sync_gate(identify=async_identify)",
        TypeError,
        "identify: expected a plain function, got an async one; write it with `def`, or use AsyncGate",
    ),
    (
        'sync_gate(anonymous="starter")',
        TypeError,
        "anonymous: expected a Plan such as Plan.of(\"anonymous\", per_minute=10), or None, got 'starter' (str)",
    ),
    (
        "sync_gate(anonymous=True)",
        TypeError,
        'anonymous: expected a Plan such as Plan.of("anonymous", per_minute=10), or None, got True (bool)',
    ),
    (
        'sync_gate(trusted_proxies="10.0.0.0/8")',
        InvalidLimit,
        "trusted_proxies: expected a list such as ['10.0.0.0/8'], got '10.0.0.0/8' (str)",
    ),
    (
        "sync_gate(trusted_proxies=None)",
        InvalidLimit,
        "trusted_proxies: expected a list such as ['10.0.0.0/8'], got None (NoneType)",
    ),
    (
        "sync_gate(trusted_proxies=[10])",
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got 10 (int)",
    ),
    (
        'sync_gate(trusted_proxies=["10.0.0.1/8"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got '10.0.0.1/8'; write '10.0.0.0/8', or '10.0.0.1' "
        "for this address alone",
    ),
    (
        'sync_gate(trusted_proxies=["fd00::1/255"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got 'fd00::1/255'; write the address of the proxy, "
        "such as '10.0.0.7', or its network, such as '172.16.0.0/12': names of hosts are not looked up",
    ),
    (
        'sync_gate(trusted_proxies=["10.0.0.0/8, 192.168.0.9/24"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got '10.0.0.0/8, 192.168.0.9/24'; "
        "write '10.0.0.0/8', '192.168.0.0/24'",
    ),
    (
        'sync_gate(trusted_proxies=["10.0.0.1:8080"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got '10.0.0.1:8080'; write the address without a "
        "port, '10.0.0.1'",
    ),
    (
        'sync_gate(trusted_proxies=["localhost"])',
        InvalidLimit,
        "trusted_proxies: expected networks, addresses and 'unix', got 'localhost'; write '127.0.0.1' and '::1'",
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


@pytest.mark.parametrize("returned", [b"user_1", False, 0, ("user_1", "starter"), Caller])
def test_identify_returns_something_else(returned: Any) -> None:
    """If identify returns no Caller, subject or None, both gates raise a TypeError that names only the type."""
    error = r"^identify: expected a Caller, a subject or None as the result, got (a |an |the class )?\w+$"

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
