"""What a gate and the limits of a route charge for one request, together."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.http.gate_client import Client

from awx_ratelimit import Concurrency, InvalidLimit, Plan, PlanTable, Rate, Request, Rule
from awx_ratelimit.adapters.wsgi.middleware import Slot
from awx_ratelimit.http.route_admission_sync import admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit

PLAN = Plan.of("p", per_minute=60)


class Requests:
    """Sends requests through a gate and the limits of a route. `time_ms` passes between the two."""

    def __init__(self, *limits: RouteLimit, rules: Sequence[Rule] = ()) -> None:
        self.used = Client(plans=PlanTable([PLAN], default="p"), rules=rules)
        self._limits = limits

    def send(self, time_ms: int = 0, path: str = "/") -> bool:
        """Whether a request is admitted, which then ends."""
        gate, source = self.used.gate, dict[str, Any]()
        admission = self.used.send(path, x_api_key="k")
        assert admission.reply is None
        slot = Slot(gate, [], admission.decision, admission.caller)
        request = Request("GET", path, "192.0.2.1", lambda _: [])
        self.used.clock.advance(time_ms)
        for limit in self._limits:
            admitted = admit_to_route(limit, "route", request, source, gate, [slot])
            if admitted.reply is not None:
                slot.close()
                return False
            slot.add_route(gate, admitted.decision)
        slot.close()
        return True

    def left(self, subject: str = "k", plan: Plan = PLAN, scope: str | None = None) -> int:
        """The tokens that are left."""
        return self.used.limiter.peek(subject, plan, scope=scope).usages[0].remaining


def test_refusal_gives_back_exactly() -> None:
    """What the gate has charged for a request that its route refuses is given back as if it was never charged."""
    requests = Requests(RouteLimit("1/hour", per="everyone"))
    requests.send()
    for _ in range(30):
        requests.send(time_ms=1_000)

    # 30 seconds refill 30 tokens, so the first request is forgotten too.
    assert requests.left() == 60


def test_refusal_of_the_second_limit_gives_back_the_first() -> None:
    """What the first limit of a route has charged is given back exactly, too."""
    first = Plan.of("first", per_minute=60)
    requests = Requests(RouteLimit(first, per="everyone", scope="first"), RouteLimit("1/hour", scope="second"))
    requests.send()
    for _ in range(30):
        requests.send(time_ms=1_000)

    assert requests.left("everyone", first, "first") == 60


def test_admitted_requests_stay_charged() -> None:
    """A request that is admitted by all limits is charged by all of them once, and nothing stays open."""
    requests = Requests(RouteLimit("100/hour", scope="hourly"))

    assert all(requests.send() for _ in range(5))
    assert requests.left() == 55
    assert requests.left("k", Plan.of("x", per_hour=100), "hourly") == 95


def test_paths_are_bounded() -> None:
    """Of the paths that clients send, a bounded number is kept, and no long one."""
    requests = Requests(RouteLimit("100000/hour", per="everyone"))
    claims = requests.used.gate._policy.claims
    for number in range(5_000):
        claims.expect_route_limit(Request("GET", f"/{number}", None, lambda _: []), None)
    claims.expect_route_limit(Request("GET", "/" + "x" * 300, None, lambda _: []), None)

    assert 0 < len(claims.limited_paths) <= 4_096
    assert max(len(path) for _, path in claims.limited_paths) < 200


def test_one_bucket_twice(caplog: pytest.LogCaptureFixture) -> None:
    """A rule and a limit of its route that take from one bucket are one warning, which names the rule."""
    rule = Rule("/search", budget="search", plan=PLAN)
    requests = Requests(RouteLimit("60/minute", scope="search"), rules=[rule])
    for _ in range(3):
        requests.send(path="/search")

    assert requests.left(scope="search") == 54
    [record] = caplog.records
    assert record.getMessage().startswith(
        "Rule('/search', budget='search') and a limit of its route take from the same bucket, so each request is "
        "charged twice; give the budget another name"
    )


@pytest.mark.parametrize(
    ("rule", "scope"),
    [
        (Rule("/search", budget="search", plan=PLAN), "route"),
        (Rule("/search", budget="search", plan=PLAN, per="address"), "search"),
        (Rule("/other", budget="search", plan=PLAN), "search"),
    ],
    ids=["another name", "another owner", "another path"],
)
def test_two_buckets(rule: Rule, scope: str, caplog: pytest.LogCaptureFixture) -> None:
    """A rule and a limit that no request charges in one bucket are no warning."""
    requests = Requests(RouteLimit("60/minute", scope=scope), rules=[rule])
    requests.send(path="/search")

    assert caplog.records == []


@pytest.mark.parametrize(
    "options",
    [{"limit": Plan("p", (), Concurrency(1))}, {"limit": "5/minute", "charge_on": {401}}],
)
def test_needs_a_middleware(options: Any) -> None:
    """Slots and `charge_on` without a middleware raise RuntimeError, because nothing would end them."""
    used = Client()

    with pytest.raises(RuntimeError, match="needs the middleware around the app"):
        admit_to_route(RouteLimit(**options), "route", Request("GET", "/", None, lambda _: []), {}, used.gate, [])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"scope": "account"},
            "scope: expected another name than 'account' and 'service', which plan tables use, got 'account'",
        ),
        ({"charge_on": 5}, "charge_on: expected statuses from 100 to 599"),
        ({"cost": {"requests": 6}}, "cost: expected at most 5, the burst of the limit, got 6"),
        ({"cost": {}}, "cost: expected an int"),
        ({"per": "key"}, "per: expected one of 'caller', 'account', 'address', 'everyone'"),
    ],
)
def test_wrong_arguments(options: Any, error: str) -> None:
    """A wrong argument raises InvalidLimit when the limit is written."""
    with pytest.raises(InvalidLimit, match=error):
        RouteLimit("5/minute", **options)


def test_cost_by_measure() -> None:
    """A limit may cost several measures; what it is not named stays untouched."""
    plan = Plan("llm", (Rate("minute", 60, 60_000), Rate("tokens", 1_000, 60_000, measure="tokens")))
    requests = Requests(RouteLimit(plan, cost={"tokens": 600}, scope="llm"))

    assert [requests.send(), requests.send()] == [True, False]
    assert requests.left("k", plan, "llm") == 60
