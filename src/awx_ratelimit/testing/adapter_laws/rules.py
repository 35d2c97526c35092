"""Exemptions, costs by path, and CORS preflights."""

import pytest

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.testing.adapter_laws.adapter_under_test import KEY, AdapterUnderTest, close
from awx_ratelimit.testing.drivers import Driver, Response

PREFLIGHT = [(b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"GET")]


class RuleLaws(AdapterUnderTest):
    """What an adapter promises about rules."""

    def test_an_exempt_path_is_neither_identified_nor_decided(self, client: Driver) -> None:
        """An exempt request passes without a key and without rate-limit headers."""
        assert client.request("GET", "/health") == Response(404, [(b"Content-Type", b"text/plain")], b"hello bye")

    @pytest.mark.parametrize("path", ["/health/", "//health", "/Health", "/health%20", "/health/x"])
    def test_nothing_is_normalised_for_an_exemption(self, client: Driver, path: str) -> None:
        """Only the exact path of an exemption is exempt."""
        assert client.request("GET", path).status == 401

    @pytest.mark.parametrize("path", ["/two", "/two/", "//two", "///two//"])
    def test_doubled_and_trailing_slashes_cost_the_same(self, client: Driver, path: str) -> None:
        """Doubled and trailing slashes do not avoid the cost of a rule."""
        responses = [client.request("POST", path, KEY).status, client.request("POST", path, KEY).status]

        assert responses == [404, 429]

    @pytest.mark.parametrize("path", ["/items/7/copies", "/items/\u00e9/copies", "/files", "/files/a/b", "/files//a"])
    def test_patterns_match_a_segment_and_a_rest(self, client: Driver, path: str) -> None:
        """``{name}`` matches one segment and ``/**`` matches the rest of the path."""
        assert client.request("GET", path, KEY).header(b"ratelimit").startswith(b'"minute";r=0')  # type: ignore[union-attr]

    @pytest.mark.parametrize("path", ["/items/7/8/copies", "/items//copies", "/two", "/filesystem"])
    def test_what_no_rule_matches_costs_one(self, client: Driver, path: str) -> None:
        """A request that matches no rule costs 1."""
        assert client.request("GET", path, KEY).header(b"ratelimit").startswith(b'"minute";r=2')  # type: ignore[union-attr]

    def test_an_impossible_cost_is_a_429_without_a_time(self, client: Driver) -> None:
        """A cost above a burst gets a 429 that says so, without Retry-After."""
        response = client.request("GET", "/never", KEY)

        body = b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Request cost exceeds the limit."}'
        assert response.status == 429
        assert response.body == body
        assert response.header(b"retry-after") is None

    @pytest.mark.parametrize("lines", [PREFLIGHT, PREFLIGHT[:1], []], ids=["preflight", "origin", "plain"])
    def test_options_is_a_request_like_any_other(self, client: Driver, lines: list[tuple[bytes, bytes]]) -> None:
        """An OPTIONS request, including a CORS preflight, gets a 401 without a key and costs one token with a key."""
        without_key = client.request("OPTIONS", "/ok", lines)
        with_key = client.request("OPTIONS", "/ok", lines + KEY)

        assert without_key.status == 401
        assert with_key.status == 200
        assert (with_key.header(b"ratelimit") or b"").startswith(b'"minute";r=2')

    def test_preflights_pass_free_where_a_gate_lets_them(self) -> None:
        """With `preflights=True` only OPTIONS requests with both preflight headers pass without a key."""
        client = self.new_driver(MemoryBackend(), preflights=True)

        responses = [client.request("OPTIONS", "/ok", lines) for lines in (PREFLIGHT, PREFLIGHT[:1], PREFLIGHT[1:], [])]
        get = client.request("GET", "/ok", PREFLIGHT)
        close(client)
        assert [response.status for response in responses] == [200, 401, 401, 401]
        assert responses[0].header(b"ratelimit") is None
        assert get.status == 401
