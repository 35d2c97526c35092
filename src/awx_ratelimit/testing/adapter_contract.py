"""The HTTP contract of every adapter, as tests that you inherit: the same requests get the same bytes.

class TestMyAdapter(AdapterContract):
    def driver(self, backend, **gate):
        return AsgiDriver(lambda app: MyMiddleware(app, gate=AsyncGate(AsyncLimiter(backend), **gate)))
"""

import pytest

from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.testing.adapter_responses import KEY, ResponseLaws, close
from awx_ratelimit.testing.drivers import Driver, Response

INVALID = b'{"code":"invalid_api_key","type":"authentication_error","message":"API key is invalid."}'
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
PREFLIGHT = [(b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"GET")]


class AdapterContract(ResponseLaws):
    """Inherit from this class and define `driver`. Each test states one promise about status, headers or body."""

    def test_missing_key(self, client: Driver) -> None:
        """Without a key the response is a 401 that names the header to send."""
        response = client.request("GET", "/ok")

        body = (
            b'{"code":"api_key_missing","type":"authentication_error",'
            b'"message":"API key is missing. Send it in the X-API-Key header."}'
        )
        assert response.status == 401
        assert response.body == body
        assert response.header(b"ratelimit") is None

    @pytest.mark.parametrize("values", STRANGE_KEYS, ids=lambda values: repr(b"|".join(values))[:40])
    def test_wrong_key(self, client: Driver, values: list[bytes]) -> None:
        """Unknown, malformed, empty, overlong and repeated keys get identical responses."""
        response = client.request("GET", "/ok", [(b"X-API-Key", value) for value in values])

        expected = client.request("GET", "/ok", [(b"X-API-Key", b"unknown")])
        assert response == expected
        assert response.status == 401
        assert response.body == INVALID

    @pytest.mark.parametrize("key", [b" awx_example_small", b"awx_example_small\t ", b"\t\tawx_example_small"])
    def test_spaces_around_a_key(self, client: Driver, key: bytes) -> None:
        """Spaces and tabs around a key are stripped."""
        assert client.request("GET", "/ok", [(b"X-API-Key", key)]).status == 200

    def test_exempt_path(self, client: Driver) -> None:
        """An exempt request passes without a key and without rate-limit headers."""
        assert client.request("GET", "/health") == Response(404, [(b"Content-Type", b"text/plain")], b"hello bye")

    @pytest.mark.parametrize("path", ["/health/", "//health", "/Health", "/health%20", "/health/x"])
    def test_similar_path_is_not_exempt(self, client: Driver, path: str) -> None:
        """Only the exact path of an exemption is exempt."""
        assert client.request("GET", path).status == 401

    @pytest.mark.parametrize("path", ["/two", "/two/", "//two", "///two//"])
    def test_doubled_slashes(self, client: Driver, path: str) -> None:
        """Doubled and trailing slashes do not avoid the cost of a rule."""
        responses = [client.request("POST", path, KEY).status, client.request("POST", path, KEY).status]

        assert responses == [404, 429]

    @pytest.mark.parametrize("path", ["/items/7/copies", "/items/\u00e9/copies", "/files", "/files/a/b", "/files//a"])
    def test_patterns(self, client: Driver, path: str) -> None:
        """``{name}`` matches one segment and ``/**`` matches the rest of the path."""
        assert client.request("GET", path, KEY).header(b"ratelimit").startswith(b'"minute";r=0')  # type: ignore[union-attr]

    @pytest.mark.parametrize("path", ["/items/7/8/copies", "/items//copies", "/two", "/filesystem"])
    def test_no_matching_rule(self, client: Driver, path: str) -> None:
        """A request that matches no rule costs 1."""
        assert client.request("GET", path, KEY).header(b"ratelimit").startswith(b'"minute";r=2')  # type: ignore[union-attr]

    def test_impossible_cost(self, client: Driver) -> None:
        """A cost above a burst gets a 429 that says so, without Retry-After."""
        response = client.request("GET", "/never", KEY)

        body = b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Request cost exceeds the limit."}'
        assert response.status == 429
        assert response.body == body
        assert response.header(b"retry-after") is None

    @pytest.mark.parametrize("lines", [PREFLIGHT, PREFLIGHT[:1], []], ids=["preflight", "origin", "plain"])
    def test_options_request(self, client: Driver, lines: list[tuple[bytes, bytes]]) -> None:
        """An OPTIONS request, including a CORS preflight, gets a 401 without a key and costs one token with a key."""
        without_key = client.request("OPTIONS", "/ok", lines)
        with_key = client.request("OPTIONS", "/ok", lines + KEY)

        assert without_key.status == 401
        assert with_key.status == 200
        assert (with_key.header(b"ratelimit") or b"").startswith(b'"minute";r=2')

    def test_free_preflights(self) -> None:
        """With `preflights=True` only OPTIONS requests with both preflight headers pass without a key."""
        client = self.new_driver(MemoryBackend(), preflights=True)

        responses = [client.request("OPTIONS", "/ok", lines) for lines in (PREFLIGHT, PREFLIGHT[:1], PREFLIGHT[1:], [])]
        get = client.request("GET", "/ok", PREFLIGHT)
        close(client)
        assert [response.status for response in responses] == [200, 401, 401, 401]
        assert responses[0].header(b"ratelimit") is None
        assert get.status == 401
