"""Requests with missing, wrong and padded keys."""

import pytest

from awx_ratelimit.testing.adapter_laws.adapter_under_test import AdapterUnderTest
from awx_ratelimit.testing.drivers import Driver

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


class KeyLaws(AdapterUnderTest):
    """What an adapter promises about API keys."""

    def test_a_request_without_a_key_is_a_401(self, client: Driver) -> None:
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
    def test_every_wrong_key_gets_the_same_401(self, client: Driver, values: list[bytes]) -> None:
        """Unknown, malformed, empty, overlong and repeated keys get identical responses."""
        response = client.request("GET", "/ok", [(b"X-API-Key", value) for value in values])

        expected = client.request("GET", "/ok", [(b"X-API-Key", b"unknown")])
        assert response == expected
        assert response.status == 401
        assert response.body == INVALID

    @pytest.mark.parametrize("key", [b" awx_example_small", b"awx_example_small\t ", b"\t\tawx_example_small"])
    def test_spaces_and_tabs_around_a_key_are_no_part_of_it(self, client: Driver, key: bytes) -> None:
        """Spaces and tabs around a key are stripped."""
        assert client.request("GET", "/ok", [(b"X-API-Key", key)]).status == 200
