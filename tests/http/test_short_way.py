"""`begin`, the short way of a gate: which requests it decides, and by which gates."""

from typing import Any, Never

import pytest

from awx_ratelimit import Caller, Gate, Limiter, MemoryBackend, PlanTable, Request, Rule, StaticKeys
from awx_ratelimit.adapters.wsgi import environ
from awx_ratelimit.http.policy import EXEMPT, Admission

KEY = "awx_known"
RULES = [
    Rule("/free", exempt=True),
    Rule("/some", exempt=lambda _: False),
    Rule("/priced", cost=lambda request: len(request.path)),
    Rule("/v1", cost=5),
]


def read(_: object) -> Never:
    """For requests that nobody reads."""
    raise AssertionError("the gate has read the request")


def gate(identify: Any = None, kind: type[Gate] = Gate, listeners: Any = (), **more: Any) -> Gate:
    """A gate with the rules, which has seen a request to each path."""
    identify = StaticKeys({KEY: "starter"}) if identify is None else identify
    limiter = Limiter(MemoryBackend(), listeners=listeners)
    made = kind(limiter, plans=PlanTable.default(), identify=identify, rules=RULES, **more)
    for path in ("/", "/free", "/some", "/priced", "/v1"):
        made.admit(request(KEY, path))
    return made


def request(key: str, path: str = "/") -> Request:
    return Request("GET", path, "192.0.2.1", lambda name: [key.encode()] if name == b"x-api-key" else [])


def begun(made: Gate, path: str = "/", method: str = "GET", key: str = KEY, header: str = "X-API-Key") -> Any:
    """What `begin` returns for a request that nobody may read."""
    return made.begin(method, path, header.lower().encode(), key.encode(), None, read)


def begun_with(made: Gate, sent: Request) -> Any:
    """What `begin` returns for a request that it may read."""
    return made.begin(sent.method, sent.path, b"x-api-key", KEY.encode(), sent, lambda source: source)


def test_known_request() -> None:
    """A request whose key and path are in memory is decided without being read."""
    reply, _, decision, caller = begun(gate(), "/v1")

    assert reply is None
    assert decision.cost == 5
    assert caller.plan == "starter"


@pytest.mark.parametrize(
    ("path", "method", "key"),
    [("/new", "GET", KEY), ("/some", "GET", KEY), ("/", "GET", "unknown")],
)
def test_request_that_is_left_to_admit(path: str, method: str, key: str) -> None:
    """A new path, a rule that may exempt, and an unknown key are left to `admit`, and charge nothing."""
    told: list[Any] = []
    made = gate(listeners=[told.append])
    told.clear()

    assert begun(made, path, method, key) is None
    assert told == []


def test_request_with_a_function() -> None:
    """A request whose rule has a function is read for it, and decided."""
    reply, _, decision, _ = begun_with(gate(), request(KEY, "/priced"))

    assert reply is None
    assert decision.cost == len("/priced")


def test_exempt_path() -> None:
    """A request to an exempt path is neither read nor charged."""
    assert begun(gate(), "/free") == EXEMPT


def test_preflight() -> None:
    """A preflight that passes free is not charged."""
    made = gate(preflights=True)
    headers = {b"x-api-key": [KEY.encode()], b"origin": [b"null"], b"access-control-request-method": [b"GET"]}
    preflight = Request("OPTIONS", "/", "192.0.2.1", lambda name: headers.get(name, []))
    made.admit(preflight)

    assert begun_with(made, preflight) == EXEMPT


@pytest.mark.parametrize("empty", [b"origin", b"access-control-request-method"])
def test_preflight_without_a_value(empty: bytes) -> None:
    """A browser sends both headers of a preflight with a value; without one it needs a key as all requests do."""
    headers = {b"origin": [b"null"], b"access-control-request-method": [b"GET"], empty: [b""]}
    preflight = Request("OPTIONS", "/", "192.0.2.1", lambda name: headers.get(name, []))

    assert gate(preflights=True).admit(preflight).reply is not None


def test_throttled_addresses() -> None:
    """While addresses are throttled for unknown keys, known keys take the short way from every address."""
    made = gate()
    for number in range(30):
        made.admit(request(f"unknown {number}"))

    assert made._unknown_key_addresses
    assert begun(made)[2].allowed


class _Changed(StaticKeys):
    def __call__(self, request: Request) -> Caller | None:
        return None if request.header("X-Left") else super().__call__(request)


class _Guarded(StaticKeys):
    def known(self, _: Request) -> None:
        return None


class _Same(StaticKeys):
    """Changes nothing."""


class _Watched(Gate):
    def admit(self, request: Request) -> Admission:
        return super().admit(request)


@pytest.mark.parametrize("identify", [_Changed({KEY: "starter"}), _Guarded({KEY: "starter"}), lambda _: Caller("s")])
def test_identifiers_of_your_own(identify: Any) -> None:
    """A subclass that identifies callers in another way is asked about every request, and so is a function."""
    assert not gate(identify).finders


def test_subclass_that_changes_nothing() -> None:
    """A subclass of StaticKeys that changes nothing keeps the short way."""
    assert begun(gate(_Same({KEY: "starter"})))[2].allowed


@pytest.mark.parametrize(
    ("sent", "is_decided"),
    [
        (f"Bearer {KEY}", True),
        (f"bearer {KEY}", False),
        (f"Bearer  {KEY}", False),
        ("Bearer a, b", False),
        (KEY, False),
    ],
)
def test_bearer(sent: str, is_decided: bool) -> None:
    """A bearer key in its usual form is decided, and all other forms are left to `admit`."""
    made = gate(StaticKeys({KEY: "starter"}, bearer=True))

    assert (begun(made, header="Authorization", key=sent) is not None) is is_decided


def test_two_keys() -> None:
    """A request with keys in two headers is left to `admit`, which refuses it."""
    made = gate(StaticKeys({KEY: "starter"}, bearer=True))
    one = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_API_KEY": KEY}

    variables = [("HTTP_X_API_KEY", b"x-api-key"), ("HTTP_AUTHORIZATION", b"authorization")]

    assert environ.begun(one, made, variables) is not None
    assert environ.begun({**one, "HTTP_AUTHORIZATION": f"Bearer {KEY}"}, made, variables) is None


def test_gate_of_your_own() -> None:
    """A subclass of a gate that overrides `admit` decides every request."""
    assert not gate(kind=_Watched).finders
