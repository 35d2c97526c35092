"""What a Request gives access to beyond its path and headers."""

from types import SimpleNamespace
from typing import Any

import pytest

from awx_ratelimit import Request


def request(source: Any) -> Request:
    return Request("GET", "/", None, lambda _: [], None, source)


SCOPE = {"type": "http", "query_string": b"a=1&b=%C3%A4+x&a=2&empty=", "user": "alice", "session": {"n": 1}}
ENVIRON = {"REQUEST_METHOD": "GET", "QUERY_STRING": "a=1&b=%C3%A4+x&a=2&empty=", "REMOTE_USER": "alice"}
DJANGO = SimpleNamespace(META={"QUERY_STRING": "a=1&b=%C3%A4+x&a=2&empty="}, user="alice", session={"n": 1})


@pytest.mark.parametrize("source", [SCOPE, ENVIRON, DJANGO])
@pytest.mark.parametrize(("name", "value"), [("a", "1"), ("b", "ä x"), ("empty", ""), ("none", None)])
def test_query(source: Any, name: str, value: str | None) -> None:
    """The first value of a field is decoded, whatever the request came from."""
    assert request(source).query(name) == value


@pytest.mark.parametrize("query", [b"a=1&" * 300, b"a=" + b"x" * 20_000, b"\xff\x00=&&;", b"%=%zz"])
def test_hostile_query(query: bytes) -> None:
    """A query that is too long or malformed has no field, and raises nothing."""
    assert request({"type": "http", "query_string": query}).query("a") is None


@pytest.mark.parametrize("source", [SCOPE, ENVIRON, DJANGO])
def test_user(source: Any) -> None:
    """The user is the one that a middleware outside of ours has set."""
    assert request(source).user == "alice"


@pytest.mark.parametrize(("source", "session"), [(SCOPE, {"n": 1}), (DJANGO, {"n": 1}), (ENVIRON, None), (None, None)])
def test_session(source: Any, session: Any) -> None:
    """The session is the one that a middleware outside of ours has opened; None without one."""
    assert request(source).session == session
