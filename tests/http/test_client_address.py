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


def reported(header: str, *values: bytes, client: str | None = "10.0.0.1", bits: int = 64) -> str:
    """The client of a request in which a trusted proxy reports it in `header`."""
    lines = lambda name: list(values) if name == header.lower().encode() else []  # noqa: E731  # a header look-up
    subject = ClientAddresses(PROXIES, header, bits).subject(Request("GET", "/", client, lines))
    return subject.removeprefix("address:")


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([b"for=203.0.113.9"], "203.0.113.9"),
        ([b'For="203.0.113.9:4711";proto=http'], "203.0.113.9"),
        ([b'proto=https; for="[2001:db8:1::1]:4711"'], "2001:db8:1::/64"),
        ([b"for=1.1.1.1, for=203.0.113.9, for=192.0.2.7"], "203.0.113.9"),
        ([b"for=1.1.1.1", b"for=203.0.113.9"], "203.0.113.9"),
        ([b'for="1.1.1.1, for=203.0.113.9'], "203.0.113.9"),
        ([b"for=203.0.113.9, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        ([b"for=_hidden"], "10.0.0.1"),
        ([b"by=203.0.113.9"], "10.0.0.1"),
        ([b"xfor=203.0.113.9"], "10.0.0.1"),
        ([b'for="203.0.113.9'], "10.0.0.1"),
        ([b"for=203.0.113.9 for=1.1.1.1"], "10.0.0.1"),
        ([b"\xff;for"], "10.0.0.1"),
        ([b'host="a;for=1.1.1.1;b=";for=203.0.113.9'], "203.0.113.9"),
        ([b'for=203.0.113.9;host="a\\";for=1.1.1.1;b="'], "203.0.113.9"),
        ([b'for=203.0.113.9;host="a,for=1.1.1.1;b="'], "10.0.0.1"),
        ([b'host="a,for=1.1.1.1;b=";for=203.0.113.9'], "10.0.0.1"),
        ([b"host=a;for=1.1.1.1;for=203.0.113.9"], "10.0.0.1"),
        ([b"for=1.1.1.1," * 40_000 + b"for=203.0.113.9"], "203.0.113.9"),
        ([], "10.0.0.1"),
    ],
)
def test_forwarded(values: list[bytes], client: str) -> None:
    """Forwarded (RFC 7239) is read from the right, as X-Forwarded-For is."""
    assert reported("Forwarded", *values) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([b"203.0.113.9"], "203.0.113.9"),
        ([b" 203.0.113.9 "], "203.0.113.9"),
        ([b"10.0.0.9"], "10.0.0.9"),
        ([b"203.0.113.9", b"1.1.1.1"], "10.0.0.1"),
        ([b"203.0.113.9, 1.1.1.1"], "10.0.0.1"),
        ([b"x" * 5_000], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_header_with_one_address(values: list[bytes], client: str) -> None:
    """A header such as X-Real-IP counts if it has exactly one address."""
    assert reported("X-Real-IP", *values) == client


def test_header_of_an_untrusted_peer() -> None:
    """No header of a peer that is not a trusted proxy counts."""
    assert reported("CF-Connecting-IP", b"203.0.113.9", client="198.51.100.1") == "198.51.100.1"


@pytest.mark.parametrize(("bits", "client"), [(48, "2001:db8:1::/48"), (56, "2001:db8:1:200::/56"), (128, None)])
def test_ipv6_prefix(bits: int, client: str | None) -> None:
    """One IPv6 client is a network of as many bits as the option says."""
    assert reported("X-Real-IP", b"2001:db8:1:2ff::1", bits=bits) == (client or "2001:db8:1:2ff::1/128")


@pytest.mark.parametrize("values", [[b"64:ff9b::cb00:7109"], [b"64:ff9b::203.0.113.9"], [b"203.0.113.9"]])
def test_nat64(values: list[bytes]) -> None:
    """An address that a NAT64 gateway made counts as the IPv4 address in it, so a gateway is not one client."""
    assert reported("X-Real-IP", *values) == "203.0.113.9"


@pytest.mark.parametrize("wrong", ["", "X Real", "X-Real\n", 1, None, "x" * 65])
def test_invalid_header(wrong: str) -> None:
    """A value that is not the name of a header raises InvalidLimit."""
    with pytest.raises(InvalidLimit, match="address_header: expected the name of a header such as 'X-Real-IP'"):
        ClientAddresses([], wrong)


@pytest.mark.parametrize("wrong", [0, 129, True, "64"])
def test_invalid_prefix(wrong: int) -> None:
    """A prefix of no or too many bits raises InvalidLimit."""
    with pytest.raises(InvalidLimit, match="ipv6_prefix: expected"):
        ClientAddresses([], ipv6_prefix=wrong)
