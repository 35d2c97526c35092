"""Long header values are read up to a bound: the beginning, the end, or nothing."""

import pytest

from awx_ratelimit import KeyRefused, Request
from awx_ratelimit.http.client_address import ClientAddresses
from awx_ratelimit.http.header_values import MAX_BYTES, first_bytes, last_items, only_value, prefers_problem
from awx_ratelimit.http.identity.identifiers import sent_key


def request(name: bytes, *lines: bytes) -> Request:
    return Request("GET", "/", "10.0.0.1", lambda asked: list(lines) if asked == name else [])


@pytest.mark.parametrize(
    ("lines", "value"),
    [([b"a"], b"a"), ([b""], b""), ([b"a" * MAX_BYTES], b"a" * MAX_BYTES), ([b"a" * (MAX_BYTES + 1)], None), ([], None),
     ([b"a", b"a"], None)],
)  # fmt: skip
def test_only_value(lines: list[bytes], value: bytes | None) -> None:
    """A header that was sent twice, or whose value is too long, has no value."""
    assert only_value(lines) == value


@pytest.mark.parametrize("lines", [[b"ab", b"cd"], [b"a" * 600, b"b" * 600], [b"a" * 5_000, b"b"], [b"a"] * 40, []])
def test_first_bytes(lines: list[bytes]) -> None:
    """The result is the beginning of the joined values, and says whether anything was cut."""
    text, is_cut = first_bytes(lines)

    assert b",".join(lines).startswith(text)
    assert is_cut == (text != b",".join(lines))
    assert len(text) <= MAX_BYTES


@pytest.mark.parametrize("lines", [[b"ab", b"cd"], [b"a" * 600, b"b" * 600], [b"a" * 5_000, b"b"], [b"a"] * 40, []])
def test_last_items(lines: list[bytes]) -> None:
    """The result is the end of the joined values, and contains whole items only."""
    items = last_items(lines).split(b",")

    assert b",".join(lines).split(b",")[-len(items) :] == items or items == [b""]
    assert sum(map(len, items)) <= MAX_BYTES


def test_cut_address() -> None:
    """Padding cannot turn the end of one address into another: then the nearest proxy is the client."""
    hostile = b"7" * (MAX_BYTES + 1 - len(b"203.0.113.9, 10.0.0.2")) + b"203.0.113.9, 10.0.0.2"

    assert ClientAddresses(["10.0.0.0/8"]).subject(request(b"x-forwarded-for", hostile)) == "address:10.0.0.2"


def test_padding_before_the_proxys_address() -> None:
    """The address that a trusted proxy appended counts, however much the client sent before it."""
    for own in ([b"1.2.3.4," * 9_000], [b" " * 60_000], [b"1.2.3.4"] * 5_000):
        assert (
            ClientAddresses(["10.0.0.0/8"]).subject(request(b"x-forwarded-for", *own, b"203.0.113.9"))
            == "address:203.0.113.9"
        )


@pytest.mark.parametrize("padding", [b" " * MAX_BYTES, b"\t" * 60_000])
def test_padded_key(padding: bytes) -> None:
    """A key with a kilobyte of spaces is refused, not treated as missing."""
    with pytest.raises(KeyRefused):
        sent_key(request(b"x-api-key", b"awx_key" + padding))


@pytest.mark.parametrize(
    ("accept", "problem"),
    [
        ([b"application/problem+json", b"a," * 5_000], True),
        ([b"a," * 15 + b"application/problem+json"], True),
        ([b"a," * 5_000 + b"application/problem+json"], False),
        ([b"application/problem+json" + b";" * 5_000], False),
        ([b"application/problem+json;q=0.5," + b"a" * (MAX_BYTES - 49) + b",application/json;q=0.9"], True),
    ],
)
def test_long_accept(accept: list[bytes], problem: bool) -> None:
    """Only whole media ranges in the first kilobyte count."""
    assert prefers_problem(accept) is problem
