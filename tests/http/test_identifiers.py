"""An identifier's 401s, and which of its keys pass from a throttled address."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    ClientAddress,
    Gate,
    InvalidLimit,
    KeyRefused,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Request,
    StaticKeys,
)
from awx_ratelimit.http import unknown_keys
from awx_ratelimit.http.message import Reply
from awx_ratelimit.testing import ManualClock

PLANS = PlanTable([Plan.of("p", per_minute=1_000)], default="p")
OF_KEYS = b'ApiKey realm="api", header="X-API-Key"'
Ask = Callable[..., Reply | None]


def sent(**headers: str) -> Request:
    lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request("GET", "/", "192.0.2.1", lambda name: [lines[name]] if name in lines else [])


@pytest.fixture(params=["Gate", "AsyncGate"])
def asker(request: pytest.FixtureRequest) -> Iterator[Callable[..., Ask]]:
    """Makes gates of either kind, and gives the reply that each sends instead of calling the app."""
    with asyncio.Runner() as runner:

        def make(identify: Any, **fields: Any) -> Ask:
            backend = MemoryBackend(clock=ManualClock())
            if request.param == "Gate":
                gate = Gate(Limiter(backend), plans=PLANS, identify=identify, **fields)
                return lambda **headers: gate.admit(sent(**headers)).reply
            loop_gate = AsyncGate(AsyncLimiter(backend), plans=PLANS, identify=identify, **fields)
            return lambda **headers: runner.run(loop_gate.admit(sent(**headers))).reply

        yield make


class Sessions:
    """Sessions by a header of their own; `looked_up` are those that were not in memory."""

    def __init__(self, cached: dict[str, Caller | KeyRefused]) -> None:
        self.cached = cached
        self.looked_up: list[str] = []

    def __call__(self, request: Request) -> Caller | None:
        session = request.header("x-session")
        if session is None:
            return None
        caller = self.known(request)
        if caller is None:
            self.looked_up.append(session)
            raise KeyRefused("unknown_session", unknown=True)
        return caller

    def known(self, request: Request) -> Caller | None:
        found = self.cached.get(request.header("x-session") or "")
        if isinstance(found, KeyRefused):
            raise found
        return found

    def sends_key(self, request: Request) -> bool:
        return request.header("x-session") is not None


def refusing(*arguments: Any, **fields: Any) -> Callable[[Request], None]:
    def identify(_: Request) -> None:
        raise KeyRefused(*arguments, **fields)

    return identify


def status(reply: Reply | None) -> int:
    return 200 if reply is None else reply.status


def answer(reply: Reply | None) -> tuple[int, str, str, bytes]:
    assert reply is not None
    body = json.loads(reply.body)
    assert list(body) == ["code", "type", "message"]
    assert body["type"] == "authentication_error"
    return reply.status, body["code"], body["message"], dict(reply.headers)[b"www-authenticate"]


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (refusing("token_expired"), ("token_expired", "The credentials are not accepted.", b'Bearer realm="api"')),
        (refusing("token_expired", "Log in again."), ("token_expired", "Log in again.", b'Bearer realm="api"')),
        (refusing("not_found", "x"), ("not_found", "x", b'Bearer realm="api"')),
        (refusing(), ("invalid_api_key", "API key is invalid.", b'ApiKey realm="api"')),
        (refusing("api_key_missing"), ("api_key_missing", "Credentials are missing.", b'ApiKey realm="api"')),
        (refusing("api_key_expired", "Old."), ("api_key_expired", "Old.", b'ApiKey realm="api"')),
        (
            refusing("access_token_expired"),
            ("access_token_expired", "Access token has expired.", b'Bearer realm="api", error="invalid_token"'),
        ),
        (refusing("dpop", "No.", challenge='DPoP algs="ES256"'), ("dpop", "No.", b'DPoP algs="ES256"')),
        (lambda _: None, ("api_key_missing", "Credentials are missing.", b'ApiKey realm="api"')),
    ],
)
def test_401_of_an_identifier(asker: Callable[..., Ask], refusal: Any, expected: tuple[str, str, bytes]) -> None:
    """Code, message and challenge are the identifier's own; none names a header that it does not read."""
    assert answer(asker(refusal)()) == (401, *expected)


def test_challenge(asker: Callable[..., Ask]) -> None:
    """The attribute `challenge` applies to every 401; the challenge of a KeyRefused to one."""

    class Basic:
        challenge = 'Basic realm="a"'

        def __call__(self, request: Request) -> Caller | None:
            if request.header("authorization"):
                raise KeyRefused("wrong_password", challenge='Basic realm="b"')
            return None

    ask = asker(Basic())
    assert answer(ask())[3] == b'Basic realm="a"'
    assert answer(ask(authorization="x"))[3] == b'Basic realm="b"'


def test_static_keys_challenge(asker: Callable[..., Ask]) -> None:
    """The 401s of StaticKeys name the header X-API-Key."""
    ask = asker(StaticKeys({"awx_key": "p"}))

    missing = "API key is missing. Send it in the X-API-Key header."
    assert answer(ask()) == (401, "api_key_missing", missing, OF_KEYS)
    assert answer(ask(x_api_key="wrong")) == (401, "invalid_api_key", "API key is invalid.", OF_KEYS)


def test_static_key_as_bearer(asker: Callable[..., Ask]) -> None:
    """With `bearer` a key of any form may come in Authorization, once, and not beside another one."""
    ask = asker(StaticKeys({"sk-1": "p"}, bearer=True))
    wrong = [
        {"authorization": "Bearer sk-2"},
        {"authorization": "Bearer sk-1, Bearer sk-1"},
        {"authorization": "Bearer sk-1", "x_api_key": "sk-1"},
        {"authorization": "Bearer " + "x" * 5_000},
    ]

    assert ask(authorization="bearer  sk-1 ") is None
    assert ask(x_api_key="sk-1") is None
    assert [answer(ask(**headers))[1] for headers in wrong] == ["invalid_api_key"] * len(wrong)
    assert [answer(ask(authorization=text))[1] for text in ("Bearer", "Basic YTpi")] == ["api_key_missing"] * 2
    assert answer(asker(StaticKeys({"sk-1": "p"}))(authorization="Bearer sk-1"))[1] == "api_key_missing"


def test_wrong_bearer_of_static_keys() -> None:
    """A `bearer` that is not a bool is an InvalidLimit."""
    wrong: Any = "yes"
    with pytest.raises(InvalidLimit, match="bearer: expected true or false"):
        StaticKeys({"sk-1": "p"}, bearer=wrong)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"code": ""}, "code: expected 1 to 64 of [A-Za-z0-9_.-], such as 'token_expired'; got ''"),
        ({"code": "a b"}, "got 'a b'"),
        ({"code": 401}, "got 401"),
        ({"challenge": "a\r\nset-cookie: b"}, "challenge: expected visible ASCII, such as 'Bearer realm=\"api\"'; got"),
        ({"challenge": ""}, "challenge: expected visible ASCII"),
        ({"challenge": b"Basic"}, "challenge: expected visible ASCII"),
    ],
)
def test_invalid_key_refused(fields: dict[str, Any], says: str) -> None:
    """A code or challenge that could break the response raises ValueError."""
    with pytest.raises(ValueError, match=re.escape(says)):
        KeyRefused(**fields)


def test_static_key_from_a_throttled_address(asker: Callable[..., Ask]) -> None:
    """Unknown keys get 429s, but a key that is configured still passes."""
    ask = asker(StaticKeys({"awx_key": "p"}))
    wrong = [status(ask(x_api_key="wrong")) for _ in range(25)]

    assert wrong == [401] * 20 + [429] * 5
    assert ask(x_api_key="awx_key") is None
    assert [status(ask(x_api_key=key)) for key in ("wrong", "", "x" * 200)] == [429] * 3


def test_known_session_from_a_throttled_address(asker: Callable[..., Ask]) -> None:
    """Sessions that `known` returns pass; others get a 429 without a look-up."""
    sessions = Sessions({"good": Caller("ann"), "old": KeyRefused("session_expired")})
    ask = asker(sessions)
    for number in range(25):
        ask(x_session=f"guess-{number}")
    sessions.looked_up.clear()

    assert ask(x_session="good") is None
    assert answer(ask(x_session="old"))[:2] == (401, "session_expired")
    assert [status(ask(x_session="other")) for _ in range(3)] == [429] * 3
    assert sessions.looked_up == []


def test_identifier_without_known(asker: Callable[..., Ask]) -> None:
    """Without a method `known`, every key from a throttled address gets a 429."""
    ask = asker(StaticKeys({"awx_key": "p"}).__call__)
    for _ in range(25):
        ask(x_api_key="wrong")

    assert status(ask(x_api_key="awx_key")) == 429


def test_subclass_of_static_keys(asker: Callable[..., Ask]) -> None:
    """For a throttled address, the look-ups of a subclass are not called."""
    looked_up = []

    class WithOthers(StaticKeys):
        def __call__(self, request: Request) -> Caller | None:
            looked_up.append(request.header("x-api-key"))
            return super().__call__(request)

    ask = asker(WithOthers({"awx_key": "p"}))
    for _ in range(25):
        ask(x_api_key="wrong")
    looked_up.clear()
    ask(x_api_key="wrong")

    assert looked_up == []
    assert ask(x_api_key="awx_key") is None


def test_address_is_forgotten(asker: Callable[..., Ask], monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after its last unknown key, an address is treated like any other."""
    now_s = [0.0]
    monkeypatch.setattr(unknown_keys, "monotonic", lambda: now_s[0])
    asked = []

    class Watched(StaticKeys):
        def known(self, request: Request) -> Caller | None:
            asked.append(now_s[0])
            return super().known(request)

    ask = asker(Watched({"awx_key": "p"}))
    ask(x_api_key="wrong")
    for now_s[0] in (1.0, 60.0, 61.0, 62.0):
        assert ask(x_api_key="awx_key") is None

    assert asked == [1.0, 60.0]


def test_async_known(asker: Callable[..., Ask]) -> None:
    """An async `known` raises TypeError in the gate's constructor."""

    class Waiting(StaticKeys):
        async def known(self, request: Request) -> Caller | None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match=r"identify\.known: expected a plain method, got an async one"):
        asker(Waiting({"awx_key": "p"}))


def test_client_address() -> None:
    """`ClientAddress` makes every client a caller, by the address that its proxy reports."""
    identify = ClientAddress("free", trusted_proxies=["10.0.0.0/8"], address_header="X-Real-IP")
    request = Request("GET", "/", "10.0.0.1", lambda name: [b"203.0.113.9"] if name == b"x-real-ip" else [])

    assert identify(request) == Caller("address:203.0.113.9", "free")
