"""What is read of a long header: its beginning, its end, or nothing."""

import pytest

from awx_ratelimit import KeyRefused, Request
from awx_ratelimit.http.client_address import ClientAddresses
from awx_ratelimit.http.header_values import MAX_BYTES, first_bytes, last_items, only_value
from awx_ratelimit.http.identity.credentials import sent_key
from awx_ratelimit.http.negotiation import prefers_problem


def request(name: bytes, *lines: bytes) -> Request:
    return Request("GET", "/", "10.0.0.1", lambda asked: list(lines) if asked == name else [])


@pytest.mark.parametrize(
    ("lines", "value"),
    [([b"a"], b"a"), ([b""], b""), ([b"a" * MAX_BYTES], b"a" * MAX_BYTES), ([b"a" * (MAX_BYTES + 1)], None), ([], None),
     ([b"a", b"a"], None)],
)  # fmt: skip
def test_one_value_of_bounded_length_is_read(lines: list[bytes], value: bytes | None) -> None:
    """A header that was sent twice, or with a longer value, has none."""
    assert only_value(lines) == value


@pytest.mark.parametrize("lines", [[b"ab", b"cd"], [b"a" * 600, b"b" * 600], [b"a" * 5_000, b"b"], [b"a"] * 40, []])
def test_the_beginning_is_that_of_the_joined_lines(lines: list[bytes]) -> None:
    """What is cut is the end, and it is known that something was."""
    text, is_cut = first_bytes(lines)

    assert b",".join(lines).startswith(text)
    assert is_cut == (text != b",".join(lines))
    assert len(text) <= MAX_BYTES


@pytest.mark.parametrize("lines", [[b"ab", b"cd"], [b"a" * 600, b"b" * 600], [b"a" * 5_000, b"b"], [b"a"] * 40, []])
def test_the_end_is_that_of_the_joined_lines_by_whole_items(lines: list[bytes]) -> None:
    """What is cut is the beginning, and no item is read in part."""
    items = last_items(lines).split(b",")

    assert b",".join(lines).split(b",")[-len(items) :] == items or items == [b""]
    assert sum(map(len, items)) <= MAX_BYTES


def test_an_address_that_is_cut_is_no_address() -> None:
    """Padding does not make the end of one address count as another: the nearest proxy is the client then."""
    hostile = b"7" * (MAX_BYTES + 1 - len(b"203.0.113.9, 10.0.0.2")) + b"203.0.113.9, 10.0.0.2"

    assert ClientAddresses(["10.0.0.0/8"]).subject(request(b"x-forwarded-for", hostile)) == "address:10.0.0.2"


def test_what_a_proxy_appends_counts_whatever_the_client_has_sent() -> None:
    """Neither length nor number of a client's own addresses hides the one that a trusted proxy has written."""
    for own in ([b"1.2.3.4," * 9_000], [b" " * 60_000], [b"1.2.3.4"] * 5_000):
        assert (
            ClientAddresses(["10.0.0.0/8"]).subject(request(b"x-forwarded-for", *own, b"203.0.113.9"))
            == "address:203.0.113.9"
        )


@pytest.mark.parametrize("padding", [b" " * MAX_BYTES, b"\t" * 60_000])
def test_a_key_with_a_kilobyte_of_spaces_is_no_key(padding: bytes) -> None:
    """It is refused as wrong, and never taken for none."""
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
def test_a_long_accept_loses_preferences(accept: list[bytes], problem: bool) -> None:
    """Only whole ranges in the first kilobyte count; one that is cut counts for nothing."""
    assert prefers_problem(accept) is problem
