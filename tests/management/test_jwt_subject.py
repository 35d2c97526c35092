"""`JwtSubject` identifies callers by their JWT."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from tests.management.conftest import AUDIENCE, ISSUER, SECRET, claims, signed

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    Gate,
    JwtSubject,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Request,
)
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable
from awx_ratelimit.management import AccessTokens, Jwks
from awx_ratelimit.testing import ManualClock

START_MS = 1_800_000_000_000
PLANS = PlanTable([Plan.of("free", per_minute=2), Plan.of("pro", per_minute=60)], default="free")


@pytest.fixture
def clock() -> ManualClock:
    """The time at which tokens are verified."""
    return ManualClock(START_MS)


@pytest.fixture
def tokens(clock: ManualClock) -> AccessTokens:
    """A verifier of tokens."""
    return AccessTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, clock=clock)


def request_with(*values: bytes) -> Request:
    """A request with these values of the Authorization header."""
    return Request("GET", "/", "192.0.2.1", lambda name: list(values) if name == b"authorization" else [])


def bearing(clock: ManualClock, **more: Any) -> Request:
    """A request with a valid token that has `more` claims."""
    return request_with(b"Bearer " + signed(claims(clock, **more)).encode())


def test_subject(tokens: AccessTokens, clock: ManualClock) -> None:
    """The claim ``sub`` is the subject; the plan is the table's default."""
    assert JwtSubject(tokens)(bearing(clock, sub="user_1")) == Caller("user_1")


def test_claims(tokens: AccessTokens, clock: ManualClock) -> None:
    """Subject, account and plan are the claims that were named."""
    identify = JwtSubject(tokens, subject_claim="client_id", account_claim="org", plan_claim="tier")

    caller = identify(bearing(clock, client_id="c1", org="acme", tier="pro"))

    assert caller == Caller("c1", "pro", "acme")
    assert identify(bearing(clock, client_id="c2")) == Caller("c2")


def test_no_token(tokens: AccessTokens) -> None:
    """A request without a token has no caller."""
    assert JwtSubject(tokens)(request_with()) is None


@pytest.mark.parametrize(
    "value", [b"", b"Basic eA==", b"Bearer", b"Bearer a b", b"Bearer " + b"x" * 20_000, b"Bearer x"]
)
def test_no_valid_token(tokens: AccessTokens, value: bytes) -> None:
    """Anything but one valid token is refused as an unknown one, which counts against the address."""
    with pytest.raises(KeyRefused) as refused:
        JwtSubject(tokens)(request_with(value))

    assert refused.value.code == "invalid_access_token"
    assert refused.value.unknown


def test_two_tokens(tokens: AccessTokens, clock: ManualClock) -> None:
    """A request with two tokens is refused, because a proxy may see the other one."""
    value = bearing(clock).values(b"authorization")[0]

    with pytest.raises(KeyRefused):
        JwtSubject(tokens)(request_with(value, value))


def test_wrong_signature(tokens: AccessTokens, clock: ManualClock) -> None:
    """A changed token is refused, also after the original was accepted."""
    identify, request = JwtSubject(tokens), bearing(clock)
    identify(request)
    changed = request.values(b"authorization")[0][:-2] + b"xx"

    with pytest.raises(KeyRefused):
        identify(request_with(changed))


def test_expired(tokens: AccessTokens, clock: ManualClock) -> None:
    """A token that was kept is refused after its expiry, and does not count as unknown."""
    identify, request = JwtSubject(tokens), bearing(clock, exp=START_MS // 1000 + 60)
    identify(request)

    clock.advance(120_000)

    with pytest.raises(KeyRefused) as refused:
        identify(request)
    assert refused.value.code == "access_token_expired"
    assert not refused.value.unknown


@pytest.mark.parametrize("wrong", ["", "x" * 129, 5, ["a"], "a\nb"])
def test_subject_that_is_none(tokens: AccessTokens, clock: ManualClock, wrong: Any) -> None:
    """A token whose subject cannot be one is refused."""
    with pytest.raises(KeyRefused):
        JwtSubject(tokens, subject_claim="client_id")(bearing(clock, client_id=wrong))


def test_verified_once(tokens: AccessTokens, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is verified once; after that it is known without a look-up."""
    identify, request = JwtSubject(tokens), bearing(clock)
    verify = Mock(wraps=tokens.claims_of)
    monkeypatch.setattr(tokens, "claims_of", verify)

    callers = [identify(request) for _ in range(3)]

    assert identify.known(request) == callers[0]
    assert verify.call_count == 1


def test_keeps_a_bounded_number(tokens: AccessTokens, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens that were verified first are forgotten first."""
    monkeypatch.setattr("awx_ratelimit.management.auth.jwt_subject._MAX_TOKENS", 3)
    identify = JwtSubject(tokens)
    requests = [bearing(clock, sub=f"user_{number}") for number in range(5)]

    for request in requests:
        identify(request)
    verify = Mock(wraps=tokens.claims_of)
    monkeypatch.setattr(tokens, "claims_of", verify)
    counts = []
    for request in (*requests[2:], *requests[:2]):
        identify(request)
        counts.append(verify.call_count)

    assert counts == [0, 0, 0, 1, 2]


def test_forged_tokens_of_an_address(tokens: AccessTokens, clock: ManualClock) -> None:
    """They lock out no valid token of that address, whose verification needs no look-up."""
    gate = Gate(Limiter(MemoryBackend()), plans=PLANS, identify=JwtSubject(tokens))
    forged = [request_with(b"Bearer " + signed(claims(clock), "w" * 64).encode()) for _ in range(22)]
    statuses = [gate.admit(each).reply.status for each in forged]  # type: ignore[union-attr]

    assert (statuses[0], statuses[-1]) == (401, 429)
    assert gate.admit(bearing(clock, sub="user_1")).reply is None


def test_keys_that_cannot_be_loaded(clock: ManualClock) -> None:
    """If the keys of the issuer cannot be loaded, the gate can answer 503."""
    jwks = Jwks.at("http://127.0.0.1:9/jwks", timeout_s=1)
    tokens = AccessTokens(jwks, algorithms=["RS256"], issuer=ISSUER, audience=AUDIENCE, clock=clock)

    with pytest.raises(KeyStoreUnavailable):
        JwtSubject(tokens)(request_with(b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.c2ln"))


def test_in_both_gates(tokens: AccessTokens, clock: ManualClock) -> None:
    """Both gates limit by the subject, and answer a token that is not accepted with a 401 of its own."""
    gate = Gate(Limiter(MemoryBackend()), plans=PLANS, identify=JwtSubject(tokens))
    async_gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=JwtSubject(tokens))
    requests = [bearing(clock), bearing(clock), bearing(clock), request_with(b"Bearer x"), request_with()]

    async def sent() -> list[Any]:
        return [await async_gate.admit(request) for request in requests]

    for admissions in ([gate.admit(request) for request in requests], asyncio.run(sent())):
        replies = [admission.reply for admission in admissions]
        assert [reply and reply.status for reply in replies] == [None, None, 429, 401, 401]
        assert replies[3] is not None
        assert dict(replies[3].headers)[b"www-authenticate"] == b'Bearer realm="api"'


def test_without_access_tokens() -> None:
    """Anything but an AccessTokens is refused when it is made."""
    with pytest.raises(TypeError, match=r"tokens: expected an AccessTokens, got 'secret' \(str\)"):
        JwtSubject("secret")  # type: ignore[arg-type]
