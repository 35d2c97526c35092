"""An address that sends too many unknown keys is throttled, and little is remembered of it."""

import logging
import tracemalloc

import pytest
from tests.http.gate_client import Client

from awx_ratelimit import Plan
from awx_ratelimit.http.unknown_keys import UNKNOWN_KEYS


def test_throttled_address() -> None:
    """After 20 unknown keys in a minute an address gets a 429 before any look-up, until the wait is over."""
    client = Client()
    statuses = [client.status(x_api_key="wrong") for _ in range(20)]
    first = client.send(x_api_key="wrong")
    looked_up = client.looked_up
    stopped = client.send(x_api_key="right")
    unheard = client.looked_up == looked_up
    elsewhere = client.status(x_api_key="right", client="192.0.2.99")
    client.clock.advance(3_000)

    assert statuses == [401] * 20
    assert (first.reply and first.reply.status) == 429
    assert stopped.reply is not None
    assert stopped.reply.status == 429
    assert dict(stopped.reply.headers)[b"retry-after"] == b"3"
    assert unheard is True
    assert elsewhere == 200
    assert client.status(x_api_key="right") == 200


def test_proxy_warning(caplog: pytest.LogCaptureFixture) -> None:
    """If an address that forwards is throttled, the log says once what to configure."""
    client = Client()
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        for _ in range(25):
            client.send(x_api_key="wrong", x_forwarded_for="203.0.113.9")

    assert [record.getMessage().count("name it in trusted_proxies") for record in caplog.records] == [1]


def test_anonymous_request_from_a_throttled_address() -> None:
    """Requests without a key have their own limit."""
    client = Client(anonymous=Plan.of("anonymous", per_minute=2))
    for _ in range(25):
        client.status(x_api_key="wrong")

    assert client.status() == 200
    assert client.status(x_api_key="k") == 429


def test_number_of_addresses_is_bounded() -> None:
    """At most 10,000 addresses are remembered."""
    client = Client()
    for number in range(12_000):
        client.send(client=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", x_api_key="wrong")

    assert len(client.gate._policy.unknown_keys.addresses) <= 10_000


def test_unknown_keys_are_not_kept() -> None:
    """Memory grows with the number of addresses, never with the keys."""
    client = Client()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(4_000):
        client.send(x_api_key=f"wrong-{number}", client=f"10.0.0.{number % 50}")
    grown_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert grown_bytes < 200_000
    assert len(client.gate._policy.unknown_keys.addresses) == 50


def test_full_bucket_is_forgotten() -> None:
    """An address whose bucket is full again is forgotten."""
    client = Client()
    client.send(x_api_key="wrong")
    client.clock.advance(60_000)
    client.send(x_api_key="right")

    assert list(client.gate._policy.unknown_keys.addresses) == []


def test_unknown_keys_limit() -> None:
    """An address may send 20 unknown keys a minute."""
    assert [(rate.tokens, rate.period_ms) for rate in UNKNOWN_KEYS.rates] == [(20, 60_000)]
