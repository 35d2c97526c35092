"""The client's address: the peer's, or the one that trusted proxies report."""

import pytest

from awx_ratelimit import InvalidLimit, Request
from awx_ratelimit.http.client_address import ClientAddresses


def request(client: str | None, *forwarded: bytes) -> Request:
    return Request("GET", "/", client, lambda name: list(forwarded) if name == b"x-forwarded-for" else [])


PROXIES = ["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48", "unix"]


@pytest.mark.parametrize(
    ("client", "forwarded", "subject"),
    [
        ("198.51.100.1", [b"203.0.113.9"], "198.51.100.1"),
        ("10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"1.1.1.1", b"203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"203.0.113.9, 192.0.2.7, 10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", [b"203.0.113.9, 198.51.100.5, 10.9.9.9"], "198.51.100.5"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("10.0.0.1", [b"unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"\xff\xfe"], "10.0.0.1"),
        ("10.0.0.1", [b"1.2.3.4,\x00"], "10.0.0.1"),
        ("10.0.0.1", [b"1.2.3.4," * 40_000 + b"203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", [b"[2001:db8::1]:4711"], "2001:db8::/64"),
        ("10.0.0.1", [b"::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("2001:db8:1:2:3::4", [b"203.0.113.9"], "2001:db8:1:2::/64"),
        ("2001:db8:ffff::1", [b"2001:db8:1:2:9::9"], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, [b"203.0.113.9"], "203.0.113.9"),
        ("", [b"203.0.113.9"], "203.0.113.9"),
        (None, [], "unix"),
    ],
)
def test_client_behind_trusted_proxies(client: str | None, forwarded: list[bytes], subject: str) -> None:
    """Only addresses that a trusted proxy appended count; the subject of an IPv6 client is its /64."""
    assert ClientAddresses(PROXIES).subject(request(client, *forwarded)) == f"address:{subject}"


@pytest.mark.parametrize("client", ["10.0.0.1", None, "198.51.100.1"])
def test_header_without_trusted_proxies(client: str | None) -> None:
    """Without trusted proxies X-Forwarded-For is ignored."""
    subjects = {ClientAddresses().subject(request(client, b"1.2.3.%d" % number)) for number in range(9)}

    assert subjects == {f"address:{client or 'unix'}"}


@pytest.mark.parametrize("wrong", [["10.0.0.0/33"], ["proxy"], ["10.0.0.1/8"], "10.0.0.1", [""]])
def test_invalid_proxy(wrong: list[str]) -> None:
    """A value that is not a network raises InvalidLimit."""
    with pytest.raises(InvalidLimit, match="trusted_proxies"):
        ClientAddresses(wrong)
