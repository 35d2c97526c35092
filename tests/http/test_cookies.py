"""Cookies are matched by their exact name, never raise, and cost bounded work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit import Request
from awx_ratelimit.http.header_values import MAX_COOKIE_BYTES, MAX_COOKIES_BYTES


def request_with(*lines: bytes) -> Request:
    """A request with these `Cookie` lines."""
    return Request("GET", "/", None, lambda name: list(lines) if name == b"cookie" else [])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"id=1", "1"),
        (b"a=0; id=1; b=2", "1"),
        (b"a=0;id=1", "1"),
        (b" \t id \t=\t 1 \t; b=2", "1"),
        (b"id=", ""),
        (b"id=a=b", "a=b"),
        (b'id="1"', '"1"'),
        (b"id=\xe9", "\u00e9"),
        (b"a/b=1; id=2", "2"),
        (b"a[b]=1; {}=3; id=2; \x00=4", "2"),
        (b"id=1; id=2", "1"),
        (b"xid=0; id=1", "1"),
        (b'$Version=1; a="; id=1"', '1"'),
        (b";;;id=1", "1"),
        (b"\xa0id=1", None),
        (b"id\xa0=1", None),
        (b"a=0; \x85id=1", None),
        (b"\x0bid=1", None),
        (b"\x0cid=1", None),
        (b"\r\nid=1", None),
        (b"\x00id=1", None),
        (b"\xc2\xa0id=1", None),
        (b"ID=1", None),
        (b"id", None),
        (b"a=id=1", None),
        (b"a=0, id=1", None),
        (b"", None),
    ],
)
def test_name_is_compared_as_bytes(line: bytes, value: str | None) -> None:
    """Only spaces and tabs around a name and a value are ignored."""
    assert request_with(line).cookie("id") == value


def test_several_headers() -> None:
    """HTTP/2 clients may send one header per cookie."""
    request = request_with(b"a=1", b"id=2", b"b=3")

    assert [request.cookie(name) for name in ("a", "id", "b", "c")] == ["1", "2", "3", None]
    assert request_with().cookie("id") is None


@given(st.lists(st.binary(max_size=60), max_size=4), st.text(max_size=8))
def test_never_raises(lines: list[bytes], name: str) -> None:
    """`cookie` returns text or None for any header and any name."""
    value = request_with(*lines).cookie(name)

    assert value is None or isinstance(value, str)


def test_long_header() -> None:
    """Nothing is read after MAX_COOKIES_BYTES."""
    assert request_with(b"a=" + b"x" * (MAX_COOKIES_BYTES - 8) + b"; id=1").cookie("id") == "1"
    assert request_with(b";" * MAX_COOKIES_BYTES + b"id=1").cookie("id") is None


@pytest.mark.parametrize("planted", [b"x" * MAX_COOKIE_BYTES, b" " * MAX_COOKIE_BYTES])
def test_long_cookie(planted: bytes) -> None:
    """A cookie of more than 4,096 bytes is ignored, and does not hide others."""
    assert request_with(b"id=" + planted).cookie("id") is None
    assert request_with(planted + b"id=0; id=" + planted + b";id=1").cookie("id") == "1"
