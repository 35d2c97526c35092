"""What is kept of costs that clients choose: by limiters, gates, routes and functions, and in what backends send."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awx_ratelimit import (
    Budget,
    Caller,
    Gate,
    HostBackend,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    Rule,
    StaticKeys,
)
from awx_ratelimit.adapters.wsgi.middleware import RateLimitMiddleware
from awx_ratelimit.backends.redis.plan_encoding import Arguments
from awx_ratelimit.backends.remote.encoding import Moments
from awx_ratelimit.backends.remote.pending_claims import plain_as_joint
from awx_ratelimit.core.joint_claim import Charge
from awx_ratelimit.http.limit_headers import headers

MANY = 1_500
#: Two thirds of what the smallest cache of these costs took.
MAX_BYTES = 700_000
LARGE = Plan.of("large", per_minute=10**9, per_day=10**8)
TOKENS = Plan("tokens", (Rate("minute", 10**9, 60_000), Rate("tokens", 10**9, 60_000, measure="tokens")))
ALSO = [Budget("acme", LARGE, "account"), Budget("everyone", LARGE, "service")]


def claims(limiter: Limiter) -> Callable[[int], Any]:
    return lambda cost: headers(limiter.acquire("key", LARGE, cost, also=ALSO), "both")


def claims_by_measure(limiter: Limiter) -> Callable[[int], Any]:
    return lambda cost: headers(limiter.acquire("key", TOKENS, {"requests": 1, "tokens": cost}, scope="models"))


def requests(rule: Rule) -> Callable[[int], Any]:
    """Requests of a caller with an account, in a service with a plan."""
    account = Plan.of("account", per_minute=10**9)
    gate = Gate(
        Limiter(MemoryBackend()),
        plans=PlanTable([Plan("own", LARGE.rates, account=account)], default="own"),
        identify=StaticKeys({"awx_key": Caller("key", account="acme")}),
        rules=[rule],
        service=Plan.of("service", per_minute=10**9),
    )

    def app(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"done"]

    limited = RateLimitMiddleware(app, gate=gate)

    def send(cost: int) -> None:
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/v1", "HTTP_X_API_KEY": "awx_key", "HTTP_X_COST": str(cost),
            "REMOTE_ADDR": "192.0.2.1", "SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
        }  # fmt: skip
        statuses: list[str] = []
        body = limited(environ, lambda status, *_: statuses.append(status))
        assert list(body) == [b"done"]
        assert statuses == ["200 OK"]

    return send


def functions() -> Callable[[int], Any]:
    limited: Any = Limiter(MemoryBackend()).limited(LARGE, cost=lambda cost: cost, scope="send")(lambda cost: cost)
    return limited  # type: ignore[no-any-return]


def arguments_for_redis(cost: int) -> None:
    Arguments().index_of_charge(Charge(LARGE, cost, None), Moments(0))
    plain_as_joint("key", TOKENS, cost, 7)


def cost_of(request: Any) -> int:
    return int(request.header("x-cost"))


FLOODS: dict[str, Callable[[Path], Callable[[int], Any]]] = {
    "several budgets": lambda _: claims(Limiter(MemoryBackend())),
    "a host": lambda folder: claims(Limiter(HostBackend(folder / "limits"))),
    "two measures": lambda _: claims_by_measure(Limiter(MemoryBackend())),
    "a rule": lambda _: requests(Rule("/v1", cost=cost_of)),
    "a rule by address": lambda _: requests(
        Rule("/v1", cost=cost_of, budget="guests", plan=Plan.of("guests", per_minute=10**9), per="address")
    ),
    "functions": lambda _: functions(),
    "redis": lambda _: arguments_for_redis,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_costs_leave_nothing(tmp_path: Path, flood: Callable[[Path], Callable[[int], Any]]) -> None:
    """Thousands of different costs take no memory."""
    act = flood(tmp_path)
    for cost in range(2, 600):
        act(cost)
    tracemalloc.start()
    try:
        begin_bytes, _ = tracemalloc.get_traced_memory()
        for cost in range(1_000, 1_000 + MANY):
            act(cost)
        grown_bytes = tracemalloc.get_traced_memory()[0] - begin_bytes
    finally:
        tracemalloc.stop()

    assert grown_bytes < MAX_BYTES
