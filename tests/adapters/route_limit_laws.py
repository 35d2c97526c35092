"""What the `limit` of every framework promises. A subclass builds an app of its framework; see `App`."""

import json
import re
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple, Protocol

import pytest

from awx_ratelimit import AsyncGate, AsyncLimiter, Caller, Gate, Limiter, MemoryBackend, Plan, PlanTable
from awx_ratelimit.core import scope
from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.testing import ManualClock

#: The keys that were looked up.
LOOKED_UP: list[str | None] = []
KEYS = {
    "alice": Caller("alice", account="acme"),
    "bob": Caller("bob", account="acme"),
    "carol": Caller("carol"),
    "exempt": Caller("root", exempt=True),
}
PLAN = Plan.of("p", per_minute=100, concurrent=2)


#: The gate of limits without another gate lives as long as the process.
_UNUSED = count(1)


class Answer(NamedTuple):
    """A response. Header names are in lower case; several lines of one name are joined by ``|``."""

    status: int
    headers: dict[str, str]
    body: bytes


class Get(Protocol):
    """Sends a GET to the app."""

    def __call__(self, path: str, key: str | None = None, address: str = "192.0.2.1") -> Answer: ...


def identify(request: Any) -> Caller | None:
    """The caller of the key, which need not be known."""
    key = request.header("x-api-key")
    LOOKED_UP.append(key)
    if key == "down":
        raise KeyStoreUnavailable("the store is down")
    return KEYS.get(key) if key else None


class RouteLimitLaws:
    """Set `is_async`, and define `app`.

    `app(limit, gate, around)` is an app with these routes, each a function of its own that returns ``ok``, with limits
    by `limit`, which passes `gate` if that is not None: ``/one`` and ``/two`` (2/minute), ``/both`` (3/minute per
    address, 2/minute), ``/everyone`` (2/minute per everyone), ``/account`` (2/minute per account), ``/costly``
    (10/minute, cost 5), ``/shared`` and ``/shared-too`` (2/minute, scope "shared"), ``/free`` (none). With `around` the
    middleware with that gate is around the app. It returns a function that sends a GET.
    """

    is_async = True

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """An app of the framework."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The functions of other tests have not taken the names of these routes."""
        monkeypatch.setattr(scope, "_OWNERS", {})

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of all limits."""
        return ManualClock(1_000_000_000)

    @pytest.fixture
    def limiter(self, clock: ManualClock) -> Limiter:
        """Looks into the limits."""
        return Limiter(MemoryBackend(clock=clock))

    @pytest.fixture
    def gate(self, limiter: Limiter) -> Any:
        """A gate with callers by key, or else by address."""
        backend: Any = limiter.backend
        options: Any = {"plans": PlanTable([PLAN], default="p"), "identify": identify, "anonymous": PLAN}
        return AsyncGate(AsyncLimiter(backend), **options) if self.is_async else Gate(Limiter(backend), **options)

    @pytest.fixture
    def alone(self, gate: Any) -> Get:
        """Sends to an app whose limits have a gate, without a middleware."""
        return self.app({"gate": gate}, None)

    @pytest.fixture
    def behind(self, gate: Any) -> Get:
        """Sends to an app behind a middleware."""
        return self.app({}, gate)

    def test_refused_when_the_limit_is_reached(self, alone: Get, behind: Get) -> None:
        """The third request of a caller is refused with the seed's three keys, alone and behind a middleware."""
        for get in (alone, behind):
            answers = [get("/one", "alice") for _ in range(3)]

            refused = answers[-1]
            assert [answer.status for answer in answers[-1:]] == [429]
            assert list(json.loads(refused.body)) == ["code", "type", "message"]
            assert refused.headers["retry-after"] == "30"
            assert refused.headers["cache-control"] == "no-store"
            assert refused.headers["ratelimit"].endswith('"one.minute";r=0;t=30')

    @pytest.mark.parametrize(("wait_ms", "status"), [(30_000, 200), (29_999, 429)])
    def test_waits_for_room(
        self, gate: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, wait_ms: int, status: int
    ) -> None:
        """With `wait_ms`, a request waits for room instead of being refused, and no longer than that."""
        call_at = clock.call_at

        def passing(at_ms: int, function: Callable[[], None]) -> Callable[[], None]:
            cancel = call_at(at_ms, function)
            clock.set(max(at_ms, clock.now_ms()))
            return cancel

        monkeypatch.setattr(clock, "call_at", passing)
        get = self.app({"gate": gate, "wait_ms": wait_ms, "max_waiting": 1}, None)

        assert [get("/one", "alice").status for _ in range(3)] == [200, 200, status]

    def test_two_requests_are_allowed(self, alone: Get) -> None:
        """As many requests as the limit says are allowed, and the app answers them."""
        answers = [alone("/one", "alice") for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert b"ok" in answers[0].body

    def test_room_comes_back(self, alone: Get, clock: ManualClock) -> None:
        """After the wait that the refusal names, the next request is allowed."""
        for _ in range(3):
            alone("/one", "alice")

        clock.advance(30_000)

        assert alone("/one", "alice").status == 200

    def test_routes_have_buckets_of_their_own(self, behind: Get) -> None:
        """Two routes with equal limits never share a bucket."""
        for _ in range(3):
            behind("/one", "alice")

        assert behind("/two", "alice").status == 200

    def test_a_scope_is_shared(self, behind: Get) -> None:
        """Limits with one scope share a bucket."""
        answers = [behind("/shared", "alice"), behind("/shared-too", "alice"), behind("/shared", "alice")]

        assert [answer.status for answer in answers] == [200, 200, 429]
        assert '"shared.minute"' in answers[0].headers["ratelimit-policy"]

    def test_callers_have_buckets_of_their_own(self, behind: Get) -> None:
        """Another caller is not refused."""
        for _ in range(3):
            behind("/one", "alice")

        assert behind("/one", "carol").status == 200

    def test_without_key_by_address(self, alone: Get) -> None:
        """Requests without a key count by their address."""
        for _ in range(3):
            alone("/one")

        assert alone("/one").status == 429
        assert alone("/one", address="192.0.2.2").status == 200

    def test_without_any_gate(self) -> None:
        """Without a gate and a middleware, clients count by their address, whatever key they send."""
        get, address = self.app({}, None), f"10.1.0.{next(_UNUSED)}"

        answers = [get("/one", key, address) for key in ("alice", "bob", "carol")]

        assert [answer.status for answer in answers] == [200, 200, 429]

    def test_per_everyone(self, behind: Get) -> None:
        """All callers share one bucket."""
        assert [behind("/everyone", key).status for key in ("alice", "bob", "carol")] == [200, 200, 429]

    def test_per_account(self, behind: Get) -> None:
        """The callers of an account share one bucket; a caller without an account has its own."""
        assert [behind("/account", key).status for key in ("alice", "bob", "alice", "carol")] == [200, 200, 429, 200]

    @pytest.mark.parametrize("path", ["/one", "/account", "/both"])
    def test_one_look_up(self, behind: Get, path: str) -> None:
        """Behind a middleware the caller is looked up once, whoever shares the bucket."""
        LOOKED_UP.clear()
        behind(path, "alice")

        assert LOOKED_UP == ["alice"]

    @pytest.mark.parametrize("path", ["/one", "/account"])
    def test_store_is_down(self, alone: Get, path: str) -> None:
        """A key that cannot be looked up is answered with a 503, and does not count by its address."""
        assert [alone(path, "down").status for _ in range(3)] == [503] * 3

    def test_per_address_and_per_caller(self, behind: Get) -> None:
        """Both limits of a route hold at once."""
        assert [behind("/both", "alice").status for _ in range(3)] == [200, 200, 429]
        assert [behind("/both", "carol").status for _ in range(2)] == [200, 429]

    def test_cost(self, behind: Get) -> None:
        """A request costs as many tokens as the limit says."""
        assert [behind("/costly", "alice").status for _ in range(3)] == [200, 200, 429]

    def test_refused_is_free(self, behind: Get, limiter: Limiter) -> None:
        """A refused request is charged neither by the caller's plan nor by another limit of the route."""
        for _ in range(2):
            behind("/both", "alice")
        before = limiter.peek("alice", PLAN).usages

        for _ in range(5):
            assert behind("/both", "alice").status == 429

        assert limiter.peek("alice", PLAN).usages == before
        assert behind("/both", "carol").status == 200

    def test_refused_holds_no_slot(self, behind: Get, limiter: Limiter) -> None:
        """The slots of refused and of answered requests are free again."""
        for _ in range(5):
            behind("/one", "alice")

        assert limiter.peek("alice", PLAN).usages[-1].remaining == 2

    def test_headers_report_both(self, behind: Get) -> None:
        """An admitted response has one line of each field, with the limits of the plan and of the route."""
        headers = behind("/one", "alice").headers

        assert headers["ratelimit-policy"] == (
            '"minute";q=100;w=60, "concurrent";q=2;qu="concurrent-requests", "one.minute";q=2;w=60'
        )
        assert headers["ratelimit"] == '"minute";r=99;t=60, "concurrent";r=1, "one.minute";r=1;t=30'

    def test_headers_without_a_middleware(self, alone: Get) -> None:
        """Without a middleware the response reports the route's limit."""
        assert alone("/one", "alice").headers["ratelimit"] == '"one.minute";r=1;t=30'

    def test_one_line_for_several_limits(self, alone: Get) -> None:
        """Without a middleware the response of a route with two limits has one line of each field, with both."""
        headers = alone("/both", "alice").headers

        for name, counts in (("ratelimit-policy", ["q=3", "q=2"]), ("ratelimit", ["r=2", "r=1"])):
            assert "|" not in headers[name]
            assert sorted(re.findall(r"[qr]=\d+", headers[name])) == sorted(counts)

    def test_exempt_caller(self, behind: Get) -> None:
        """A caller that is exempt is not limited by a route either."""
        assert [behind("/one", "exempt").status for _ in range(4)] == [200] * 4

    def test_other_routes(self, behind: Get) -> None:
        """A route without a limit of its own reports only the plan."""
        assert "one.minute" not in behind("/free", "alice").headers["ratelimit"]
