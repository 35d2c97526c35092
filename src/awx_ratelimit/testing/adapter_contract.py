"""The wire contract of every adapter, as tests to inherit: the same requests, answered with the same bytes.

class TestMyAdapter(AdapterContract):
    def driver(self, backend, **gate):
        return AsgiDriver(lambda app: MyMiddleware(app, gate=AsyncGate(AsyncLimiter(backend), **gate)))
"""

from collections.abc import Iterator
from typing import Any

import pytest

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.http.identity.credentials import StaticKeys
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.testing.clock import ManualClock
from awx_ratelimit.testing.drivers import Answer, AppError, Driver

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
REFUSED_BODY = (
    b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 20 seconds."}'
)
POLICY = b'"minute";q=3;w=60, "day";q=100;w=86400, "concurrent";q=5;qu="concurrent-requests"'
INVALID = b'{"code":"invalid_api_key","type":"authentication_error","message":"API key is invalid."}'

PREFLIGHT = [(b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"GET")]

STRANGE_KEYS: list[list[bytes]] = [
    [b"awx_unknown"],
    [b"awx_example_small", b"awx_example_small"],
    [b"awx_example_small", b""],
    [b""],
    [b" \t "],
    [b"awx_example_small,awx_example_small"],
    [b"awx_example_small,"],
    [b"awx_example small"],
    [b"awx_example_small\x00"],
    [b"\xff\xfe"],
    ["awx_\u00e9xample".encode()],
    [b"a" * 129],
    [b"a" * 200_000],
    [b"Bearer awx_example_small"],
    [b"AWX_EXAMPLE_SMALL"],
]


class AdapterContract:
    """Inherit, and say how an adapter is driven. Each test states one promise; the bytes are those of the contract."""

    def driver(self, backend: Any, **gate: Any) -> Driver:
        """A driver around the adapter, with a gate of the fields `gate` over `backend`, which fits an event loop."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of the backend: a minute before midnight UTC."""
        return ManualClock(86_400_000 - 60_000)

    @pytest.fixture
    def client(self, clock: ManualClock) -> Iterator[Driver]:
        """A driver with the keys, plans and rules above."""
        driver = self._driver(MemoryBackend(clock=clock))
        yield driver
        getattr(driver, "close", lambda: None)()

    def _driver(self, backend: Any, **gate: Any) -> Driver:
        keys = StaticKeys({"awx_example_small": "small", "awx_example_slots": "slots"})
        return self.driver(backend, plans=PLANS, identify=keys, rules=RULES, **gate)

    def test_an_admitted_request_is_the_apps_with_two_lines_more(self, client: Driver) -> None:
        """An admitted answer is the app's own, followed by RateLimit-Policy and RateLimit."""
        assert client.request("GET", "/ok", KEY) == Answer(
            200,
            [
                (b"Content-Type", b"text/plain"),
                (b"ratelimit-policy", POLICY),
                (b"ratelimit", b'"minute";r=2;t=40, "day";r=99;t=60, "concurrent";r=4'),
            ],
            b"hello bye",
        )

    def test_a_refused_request_gets_the_429_of_the_contract(self, client: Driver) -> None:
        """Over the limit the answer is the 429, byte for byte, and the app is not called."""
        for _ in range(3):
            client.request("GET", "/ok", KEY)

        assert client.request("GET", "/before", KEY) == Answer(
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

    def test_retry_after_is_true_to_the_second(self, client: Driver, clock: ManualClock) -> None:
        """Coming back after Retry-After succeeds; the last second of it is said in the singular."""
        for _ in range(3):
            client.request("GET", "/ok", KEY)
        clock.advance(19_001)
        refused = client.request("GET", "/ok", KEY)
        clock.advance(1_000)

        admitted = client.request("GET", "/ok", KEY)
        assert refused.header(b"retry-after") == b"1"
        assert b"after 1 second." in refused.body
        assert admitted.status == 200

    def test_head_gets_the_headers_and_no_body(self, client: Driver) -> None:
        """A refused HEAD has the headers of a refused GET and no body."""
        for _ in range(3):
            client.request("GET", "/ok", KEY)

        get, head = client.request("GET", "/ok", KEY), client.request("HEAD", "/ok", KEY)
        assert head.status == 429
        assert head.headers == get.headers
        assert head.body == b""

    def test_a_request_without_a_key_is_a_401(self, client: Driver) -> None:
        """Without a key the answer names the header to send, and what scheme is asked for."""
        answer = client.request("GET", "/ok")

        body = (
            b'{"code":"api_key_missing","type":"authentication_error",'
            b'"message":"API key is missing. Send it in the X-API-Key header."}'
        )
        assert answer.status == 401
        assert answer.body == body
        assert answer.header(b"ratelimit") is None

    @pytest.mark.parametrize("values", STRANGE_KEYS, ids=lambda values: repr(b"|".join(values))[:40])
    def test_every_wrong_key_gets_the_same_401(self, client: Driver, values: list[bytes]) -> None:
        """Unknown, malformed, empty, too long and doubled keys are answered with the same bytes."""
        answer = client.request("GET", "/ok", [(b"X-API-Key", value) for value in values])

        expected = client.request("GET", "/ok", [(b"X-API-Key", b"unknown")])
        assert answer == expected
        assert answer.status == 401
        assert answer.body == INVALID

    @pytest.mark.parametrize("key", [b" awx_example_small", b"awx_example_small\t ", b"\t\tawx_example_small"])
    def test_spaces_and_tabs_around_a_key_are_no_part_of_it(self, client: Driver, key: bytes) -> None:
        """A key is trimmed of spaces and tabs."""
        assert client.request("GET", "/ok", [(b"X-API-Key", key)]).status == 200

    def test_an_exempt_path_is_neither_identified_nor_decided(self, client: Driver) -> None:
        """An exempt request passes without a key and without headers."""
        assert client.request("GET", "/health") == Answer(404, [(b"Content-Type", b"text/plain")], b"hello bye")

    @pytest.mark.parametrize("path", ["/health/", "//health", "/Health", "/health%20", "/health/x"])
    def test_nothing_is_normalised_for_an_exemption(self, client: Driver, path: str) -> None:
        """Only the very path of an exemption is exempt."""
        assert client.request("GET", path).status == 401

    @pytest.mark.parametrize("path", ["/two", "/two/", "//two", "///two//"])
    def test_doubled_and_trailing_slashes_cost_the_same(self, client: Driver, path: str) -> None:
        """A cost cannot be evaded by the spelling of slashes."""
        answers = [client.request("POST", path, KEY).status, client.request("POST", path, KEY).status]

        assert answers == [404, 429]

    @pytest.mark.parametrize("path", ["/items/7/copies", "/items/\u00e9/copies", "/files", "/files/a/b", "/files//a"])
    def test_patterns_match_a_segment_and_a_rest(self, client: Driver, path: str) -> None:
        """``{name}`` stands for one segment and ``/**`` for the rest."""
        assert client.request("GET", path, KEY).header(b"ratelimit").startswith(b'"minute";r=0')  # type: ignore[union-attr]

    @pytest.mark.parametrize("path", ["/items/7/8/copies", "/items//copies", "/two", "/filesystem"])
    def test_what_no_rule_matches_costs_one(self, client: Driver, path: str) -> None:
        """A request that no rule matches is limited at cost 1."""
        assert client.request("GET", path, KEY).header(b"ratelimit").startswith(b'"minute";r=2')  # type: ignore[union-attr]

    def test_an_impossible_cost_is_a_429_without_a_time(self, client: Driver) -> None:
        """A cost above a burst says that it never fits, and promises no time."""
        answer = client.request("GET", "/never", KEY)

        body = b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Request cost exceeds the limit."}'
        assert answer.status == 429
        assert answer.body == body
        assert answer.header(b"retry-after") is None

    @pytest.mark.parametrize("lines", [PREFLIGHT, PREFLIGHT[:1], []], ids=["preflight", "origin", "plain"])
    def test_options_is_a_request_like_any_other(self, client: Driver, lines: list[tuple[bytes, bytes]]) -> None:
        """An OPTIONS request, a CORS preflight too, is a 401 without a key and costs one token with it."""
        without_key = client.request("OPTIONS", "/ok", lines)
        with_key = client.request("OPTIONS", "/ok", lines + KEY)

        assert without_key.status == 401
        assert with_key.status == 200
        assert (with_key.header(b"ratelimit") or b"").startswith(b'"minute";r=2')

    def test_preflights_pass_free_where_a_gate_lets_them(self) -> None:
        """With `preflights=True` an OPTIONS with the two headers of a preflight passes; no other OPTIONS does."""
        client = self._driver(MemoryBackend(), preflights=True)

        answers = [client.request("OPTIONS", "/ok", lines) for lines in (PREFLIGHT, PREFLIGHT[:1], PREFLIGHT[1:], [])]
        get = client.request("GET", "/ok", PREFLIGHT)
        getattr(client, "close", lambda: None)()
        assert [answer.status for answer in answers] == [200, 401, 401, 401]
        assert answers[0].header(b"ratelimit") is None
        assert get.status == 401

    def test_headers_of_the_same_names_are_replaced(self, client: Driver) -> None:
        """An app's own headers of these names, in any case, do not stand beside ours."""
        answer = client.request("GET", "/own", KEY)

        names = [name.lower() for name, _ in answer.headers]
        assert names == [b"content-type", b"ratelimit-policy", b"ratelimit"]
        assert answer.header(b"ratelimit-policy") == POLICY

    def test_the_app_sees_the_decision(self, client: Driver) -> None:
        """The decision of the current request is where the app looks for it."""
        assert client.request("GET", "/decision", KEY).body.startswith(b"<Decision allowed: 1 for 'key_")

    def test_a_slot_is_held_until_the_body_ends(self, client: Driver) -> None:
        """While a body is open its slot is taken, and when it has ended the slot is free."""
        with client.held("/slow", SLOTS_KEY) as first:
            second = client.request("GET", "/ok", SLOTS_KEY)

        third = client.request("GET", "/ok", SLOTS_KEY)
        assert first.status == 200
        assert second.status == 429
        assert second.header(b"retry-after") == b"1"
        assert third.status == 200

    @pytest.mark.parametrize("path", ["/before", "/during", "/after"])
    def test_a_slot_comes_back_when_the_app_raises(self, client: Driver, path: str) -> None:
        """What the app raises, before, during or after its answer, comes through, and the slot is free."""
        for _ in range(3):
            with pytest.raises(AppError):
                client.request("GET", path, SLOTS_KEY)

        assert client.request("GET", "/ok", SLOTS_KEY).status == 200

    def test_a_slot_comes_back_when_the_client_goes(self, client: Driver) -> None:
        """A response that is cancelled or dropped in the middle gives its slot back, every time."""
        for _ in range(3):
            client.abandoned("/slow", SLOTS_KEY)

        with client.held("/slow", SLOTS_KEY) as first:
            second = client.request("GET", "/ok", SLOTS_KEY)
        assert first.status == 200
        assert second.status == 429

    def test_without_a_decision_nobody_is_let_in(self) -> None:
        """When the backend cannot decide, the answer is a 503 and the app is not called."""
        client = self._driver(_Unavailable())

        answer = client.request("GET", "/before", KEY)
        getattr(client, "close", lambda: None)()
        body = (
            b'{"code":"rate_limiter_unavailable","type":"internal_error",'
            b'"message":"Rate limiter is unavailable. Retry after 1 second."}'
        )
        assert answer.status == 503
        assert answer.header(b"retry-after") == b"1"
        assert answer.body == body


class _Unavailable(MemoryBackend):
    def acquire(self, *_: Any) -> Any:
        raise BackendUnavailable("gone")
