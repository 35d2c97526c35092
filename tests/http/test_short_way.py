"""`begin`, the short way of a gate: which requests it decides, and by which gates."""

from typing import Any, Never

import pytest

from awx_ratelimit import Caller, Gate, Limiter, MemoryBackend, PlanTable, Request, Rule, StaticKeys
from awx_ratelimit.http.policy import Admission

KEY = "awx_known"
RULES = [Rule("/free", exempt=True), Rule("/priced", cost=lambda _: 2), Rule("/v1", cost=5)]


def read(_: object) -> Never:
    """For requests that nobody reads."""
    raise AssertionError("the gate has read the request")


def gate(identify: Any = None, kind: type[Gate] = Gate, listeners: Any = (), **more: Any) -> Gate:
    """A gate with the rules, which has seen a request to each path."""
    identify = StaticKeys({KEY: "starter"}) if identify is None else identify
    limiter = Limiter(MemoryBackend(), listeners=listeners)
    made = kind(limiter, plans=PlanTable.default(), identify=identify, rules=RULES, **more)
    for path in ("/", "/free", "/priced", "/v1"):
        made.admit(request(KEY, path))
    return made


def request(key: str, path: str = "/") -> Request:
    return Request("GET", path, "192.0.2.1", lambda name: [key.encode()] if name == b"x-api-key" else [])


def begun(made: Gate, path: str = "/", method: str = "GET", key: str = KEY) -> Any:
    """What `begin` returns."""
    return made.begin(method, path, key.encode(), None, read)


def test_known_request() -> None:
    """A request whose key and path are in memory is decided without being read."""
    reply, _, decision, caller = begun(gate(), "/v1")

    assert reply is None
    assert decision.cost == 5
    assert caller.plan == "starter"


@pytest.mark.parametrize(
    ("path", "method", "key"),
    [("/new", "GET", KEY), ("/free", "GET", KEY), ("/priced", "GET", KEY), ("/", "GET", "unknown")],
)
def test_request_that_must_be_read(path: str, method: str, key: str) -> None:
    """A new path, a rule that needs more than the path, and an unknown key are left to `admit`, and charge nothing."""
    told: list[Any] = []
    made = gate(listeners=[told.append])
    told.clear()

    assert begun(made, path, method, key) is None
    assert told == []


def test_preflight() -> None:
    """OPTIONS requests are left to `admit` where preflights pass free."""
    made = gate(preflights=True)
    made.admit(request(KEY)._replace(method="OPTIONS"))

    assert begun(made, method="OPTIONS") is None


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
    assert begun(gate(identify)) is None


def test_subclass_that_changes_nothing() -> None:
    """A subclass of StaticKeys that changes nothing keeps the short way."""
    assert begun(gate(_Same({KEY: "starter"})))[2].allowed


def test_keys_in_two_headers() -> None:
    """Where keys may be in another header too, requests are read, because one with two keys is refused."""
    assert begun(gate(StaticKeys({KEY: "starter"}, bearer=True))) is None


def test_gate_of_your_own() -> None:
    """A subclass of a gate that overrides `admit` decides every request."""
    assert begun(gate(kind=_Watched)) is None
