"""The adapter under test, the bytes of its responses, and how long a response holds its slot."""

from collections.abc import Iterator
from typing import Any

import pytest

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.drivers import AppError, Driver, Response

KEY = [(b"X-API-Key", b"awx_example_small")]
SLOTS_KEY = [(b"X-API-Key", b"awx_example_slots")]
PLANS = PlanTable(
    (
        Plan("small", (Rate("minute", 3, 60_000), Rate("day", 100, 86_400_000, refill="calendar")), Concurrency(5)),
        Plan("slots", (Rate("second", 100, 1_000, burst=200),), Concurrency(1)),
        Plan.of("large", per_day=1_000),
    )
)
RULES = (
    Rule("/health", exempt=True),
    Rule("/two", methods=["POST"], cost=2),
    Rule("/items/{id}/copies", cost=3),
    Rule("/files/**", cost=3),
    Rule("/never", cost=1_000),
)


class AdapterUnderTest:
    """The adapter that a contract tests, and a client of it."""

    def driver(self, backend: Any, **gate: Any) -> Driver:
        """Return a driver around the adapter.

        The adapter's gate has the fields in `gate` and decides by `backend`, which may be called in an event loop.
        """
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the backend, one minute before midnight UTC."""
        return ManualClock(86_400_000 - 60_000)

    @pytest.fixture
    def client(self, clock: ManualClock) -> Iterator[Driver]:
        """A driver with the keys, plans and rules above."""
        driver = self.new_driver(MemoryBackend(clock=clock))
        yield driver
        close(driver)

    def new_driver(self, backend: Any, **gate: Any) -> Driver:
        """A driver over `backend` with the keys, plans and rules above."""
        keys = StaticKeys({"awx_example_small": "small", "awx_example_slots": "slots"})
        return self.driver(backend, plans=PLANS, identify=keys, rules=RULES, **gate)


def close(driver: Driver) -> None:
    """Close `driver` if it has a `close` method."""
    getattr(driver, "close", lambda: None)()


REFUSED_BODY = (
    b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 20 seconds."}'
)
POLICY = b'"minute";q=3;w=60, "day";q=100;w=86400, "concurrent";q=5;qu="concurrent-requests"'


class ResponseLaws(AdapterUnderTest):
    """What an adapter promises about its responses and their slots."""

    def test_admitted_response(self, client: Driver) -> None:
        """An admitted response is the app's own, followed by RateLimit-Policy and RateLimit."""
        assert client.request("GET", "/ok", KEY) == Response(
            200,
            [
                (b"Content-Type", b"text/plain"),
                (b"ratelimit-policy", POLICY),
                (b"ratelimit", b'"minute";r=2;t=40, "day";r=99;t=60, "concurrent";r=4'),
            ],
            b"hello bye",
        )

    def test_refused_response(self, client: Driver) -> None:
        """Over the limit the response is the 429 of the contract, byte for byte, and the app is not called."""
        for _ in range(3):
            client.request("GET", "/ok", KEY)

        assert client.request("GET", "/before", KEY) == Response(
            429,
            [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(REFUSED_BODY)),
                (b"cache-control", b"no-store"),
                (b"retry-after", b"20"),
                (b"ratelimit-policy", POLICY),
                (b"ratelimit", b'"minute";r=0;t=20, "day";r=97;t=60, "concurrent";r=5'),
            ],
            REFUSED_BODY,
        )

    def test_exact_retry_after(self, client: Driver, clock: ManualClock) -> None:
        """Waiting for Retry-After succeeds; a wait of one second is written in the singular."""
        for _ in range(3):
            client.request("GET", "/ok", KEY)
        clock.advance(19_001)
        refused = client.request("GET", "/ok", KEY)
        clock.advance(1_000)

        admitted = client.request("GET", "/ok", KEY)
        assert refused.header(b"retry-after") == b"1"
        assert b"after 1 second." in refused.body
        assert admitted.status == 200

    def test_head_request(self, client: Driver) -> None:
        """A refused HEAD has the headers of a refused GET and no body."""
        for _ in range(3):
            client.request("GET", "/ok", KEY)

        get, head = client.request("GET", "/ok", KEY), client.request("HEAD", "/ok", KEY)
        assert head.status == 429
        assert head.headers == get.headers
        assert head.body == b""

    def test_headers_of_the_app(self, client: Driver) -> None:
        """Rate-limit headers that the app sets, in any case, are replaced."""
        response = client.request("GET", "/own", KEY)

        names = [name.lower() for name, _ in response.headers]
        assert names == [b"content-type", b"ratelimit-policy", b"ratelimit"]
        assert response.header(b"ratelimit-policy") == POLICY

    def test_app_sees_the_decision(self, client: Driver) -> None:
        """The app can read the decision of the current request."""
        assert client.request("GET", "/decision", KEY).body.startswith(b"<Decision allowed: 1 for 'key_")

    def test_unavailable_backend(self) -> None:
        """If the backend cannot decide, the response is a 503 and the app is not called."""
        client = self.new_driver(UnavailableBackend())

        response = client.request("GET", "/before", KEY)
        close(client)
        body = (
            b'{"code":"rate_limiter_unavailable","type":"internal_error",'
            b'"message":"Rate limiter is unavailable. Retry after 1 second."}'
        )
        assert response.status == 503
        assert response.header(b"retry-after") == b"1"
        assert response.body == body

    def test_slot_during_the_body(self, client: Driver) -> None:
        """A response holds its slot until its body ends."""
        with client.held("/slow", SLOTS_KEY) as first:
            second = client.request("GET", "/ok", SLOTS_KEY)

        third = client.request("GET", "/ok", SLOTS_KEY)
        assert first.status == 200
        assert second.status == 429
        assert second.header(b"retry-after") == b"1"
        assert third.status == 200

    @pytest.mark.parametrize("path", ["/before", "/during", "/after"])
    def test_slot_after_an_error(self, client: Driver, path: str) -> None:
        """If the app raises before, during or after its response, the error propagates and the slot is released."""
        for _ in range(3):
            with pytest.raises(AppError):
                client.request("GET", path, SLOTS_KEY)

        assert client.request("GET", "/ok", SLOTS_KEY).status == 200

    def test_slot_after_a_disconnect(self, client: Driver) -> None:
        """A response that is cancelled or dropped midway releases its slot."""
        for _ in range(3):
            client.abandoned("/slow", SLOTS_KEY)

        with client.held("/slow", SLOTS_KEY) as first:
            second = client.request("GET", "/ok", SLOTS_KEY)
        assert first.status == 200
        assert second.status == 429


class UnavailableBackend(MemoryBackend):
    """A backend that never decides."""

    def acquire(self, *_: Any) -> Any:
        raise BackendUnavailable("gone")
