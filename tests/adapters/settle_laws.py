"""What settling promises in every framework. A subclass builds an app of its framework; see `SettleLaws`."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from tests.adapters.route_limit_laws import Get

from awx_ratelimit import AsyncGate, AsyncLimiter, Caller, Gate, Limiter, MemoryBackend, Plan, PlanTable, Rule, settle
from awx_ratelimit.testing import ManualClock

_Result = TypeVar("_Result")
TABLE = PlanTable.from_mapping(
    {
        "default": "llm",
        "plans": {
            "llm": {
                "per_minute": 60,
                "rates": [{"limit": 1_000, "per": "minute", "measure": "tokens"}],
                "account": {"rates": [{"limit": 10_000, "per": "minute", "measure": "tokens"}]},
            }
        },
    }
)
(LLM,) = TABLE.plans
ACCOUNT = LLM.account or LLM
LOGIN = Plan.of("login", per_minute=2)
COST = {"requests": 1, "tokens": 800}
RULES = [
    *(Rule(path, cost=COST) for path in ("/tokens", "/stream", "/header", "/malformed", "/nothing")),
    Rule("/login/**", budget="login", plan=LOGIN, per="everyone", charge_on={401, 403}),
]
#: The limit of the routes ``/slot`` and ``/tries/...``.
SLOT = Plan.of("slot", concurrent=1)


#: The requests that have arrived.
ARRIVED: list[Any] = []


def identify(request: Any) -> Caller | None:
    """The caller of the key, which need not be known."""
    ARRIVED.append(request)
    key = request.header("x-api-key")
    return Caller(key, account="acme") if key else None


class SettleLaws:
    """Set `is_async`, and define `app`.

    `app(gate)` is an app behind the middleware with `gate`, with these routes, which answer ``ok``: ``/tokens`` calls
    ``settle(request, tokens=300)``; ``/stream`` streams its body, and calls that between two chunks; ``/header`` sends
    ``RateLimit-Cost: tokens=300``, ``/malformed`` sends ``RateLimit-Cost: tokens=many``; ``/nothing`` does nothing.
    ``/login/denied`` and ``/tries/denied`` answer 401, ``/login/welcome`` and ``/tries/welcome`` 200; the latter have
    the limit ``2/minute`` with the scope ``tries``, per everyone and with ``charge_on={401}``. ``/slot`` has the limit
    `SLOT`, per everyone and with the scope ``slot``. It returns a function that sends a GET.
    """

    is_async = True

    def app(self, gate: Any) -> Get:
        """An app of the framework."""
        raise NotImplementedError

    @pytest.fixture
    def limiter(self) -> Limiter:
        """Looks into the limits."""
        return Limiter(MemoryBackend(clock=ManualClock(1_000_000_000)))

    @pytest.fixture
    def sends(self, limiter: Limiter) -> Get:
        """Sends to the app."""
        backend: Any = limiter.backend
        options: Any = {"plans": TABLE, "identify": identify, "rules": RULES}
        gate = AsyncGate(AsyncLimiter(backend), **options) if self.is_async else Gate(Limiter(backend), **options)
        return self.app(gate)

    def becomes(self, value: Callable[[], _Result], expected: _Result) -> _Result:
        """`value()`, at the latest when all that follows the responses has happened."""
        return value()

    @pytest.mark.parametrize("path", ["/tokens", "/stream", "/header"])
    def test_less(self, sends: Get, limiter: Limiter, path: str) -> None:
        """What a request has cost less is given back, to the key and to its account."""
        answer = sends(path, "alice")

        assert answer.status == 200
        assert b"k" in answer.body
        assert self.becomes(lambda: left(limiter, "alice", LLM), [59, 700]) == [59, 700]
        assert left(limiter, "acme", ACCOUNT, "account") == [9_700]

    @pytest.mark.parametrize("path", ["/tokens", "/header"])
    def test_headers_report_the_estimate(self, sends: Get, path: str) -> None:
        """The response does not wait for the settlement, and the application's header is not sent."""
        headers = sends(path, "alice").headers

        assert '"tokens-minute";r=200' in headers["ratelimit"]
        assert "ratelimit-cost" not in headers

    @pytest.mark.parametrize("path", ["/nothing", "/malformed"])
    def test_without_a_cost(self, sends: Get, limiter: Limiter, path: str) -> None:
        """A request whose cost is not told keeps its charge; a malformed header is not sent either."""
        assert "ratelimit-cost" not in sends(path, "alice").headers

        assert left(limiter, "alice", LLM) == [59, 200]

    def test_budget_charged_on_a_status(self, sends: Get, limiter: Limiter) -> None:
        """A rule's budget is charged only for the statuses of `charge_on`; the caller's plan is charged for all."""
        answers = [sends("/login/welcome", "alice").status for _ in range(5)]
        refusals = [sends("/login/denied", "alice").status for _ in range(4)]

        assert answers == [200] * 5
        assert refusals == [401, 401, 429, 429]
        assert self.becomes(lambda: left(limiter, "alice", LLM)[0], 53) == 53

    def test_limit_charged_on_a_status(self, sends: Get) -> None:
        """A route's own limit is charged only for the statuses of `charge_on`."""
        answers = [sends("/tries/welcome", "alice").status for _ in range(5)]
        refusals = [sends("/tries/denied", "alice").status for _ in range(3)]

        assert answers == [200] * 5
        assert refusals == [401, 401, 429]

    @pytest.mark.parametrize("path", ["/login/welcome", "/header", "/nothing"])
    def test_after_the_end(self, sends: Get, path: str) -> None:
        """When the request has ended, `settle` raises, whether something was settled or not."""
        sends(path, "alice")

        def raises() -> bool:
            with suppress(RuntimeError):
                settle(ARRIVED[-1], tokens=1)
                return False
            return True

        assert self.becomes(raises, True)

    def test_slots_of_a_route(self, sends: Get, limiter: Limiter) -> None:
        """A slot of a route's own limit is free again when the request has ended."""
        answers = [sends("/slot", "alice").status for _ in range(3)]

        assert answers == [200] * 3
        assert self.becomes(lambda: limiter.peek("everyone", SLOT, scope="slot").usages[0].remaining, 1) == 1


def left(limiter: Limiter, subject: str, plan: Plan, scope: str | None = None) -> list[int]:
    """The tokens that are left of each rate."""
    return [usage.remaining for usage in limiter.peek(subject, plan, scope=scope).usages]
