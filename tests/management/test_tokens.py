"""Attacks on access tokens: only a token with a valid signature and all required claims is accepted."""

import base64
import hashlib
import hmac
import json
import logging
import warnings
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from tests.management.conftest import AUDIENCE, ISSUER, SECRET, claims, request_of, signed

from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.keys import KeyFormat
from awx_ratelimit.management import AccessTokens, Jwks, Owner
from awx_ratelimit.testing import ManualClock

INVALID, EXPIRED = "invalid_access_token", "access_token_expired"
ACME = Owner("acme", "acme")


@cache
def rsa_key(bits: int = 2_048) -> rsa.RSAPrivateKey:
    """An issuer's key; creating one takes long."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def public_pem(key: Any) -> bytes:
    """The public key of an issuer."""
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def jwk_of(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """A public key as a member of a set."""
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
        ed448.Ed448PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    kind = next(kind for base, kind in kinds.items() if isinstance(key, base))
    made: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return made | ({} if kid is None else {"kid": kid}) | more


def tokens_of(clock: ManualClock, key: Any = SECRET, algorithms: Any = ("HS256",), **more: Any) -> AccessTokens:
    """A verifier of tokens with these options."""
    return AccessTokens(key, algorithms=algorithms, **{"issuer": ISSUER, "audience": AUDIENCE, "clock": clock, **more})


def outcome_of(tokens: AccessTokens, token: str | bytes) -> str | Owner:
    """The owner, or the code of the refusal."""
    try:
        return tokens.owner_of(token if isinstance(token, bytes) else token.encode())
    except AccessRefused as error:
        return error.code


def encoded(part: object) -> str:
    """One part of a token."""
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def hand_made(header: object, payload: object, secret: bytes = SECRET.encode()) -> str:
    """A token that is signed with HS256, whatever its header says."""
    body = f"{encoded(header)}.{encoded(payload)}"
    return f"{body}.{encoded(hmac.digest(secret, body.encode(), hashlib.sha256))}"


def test_owner(clock: ManualClock, tokens: AccessTokens) -> None:
    """The account is the subject claim, or another configured claim; then the subject is the actor."""
    for_a_team = tokens_of(clock, account_claim="org")
    token = signed(claims(clock, sub="ada@example.com", org="acme"))

    assert outcome_of(tokens, token) == Owner("ada@example.com", "ada@example.com")
    assert outcome_of(for_a_team, token) == Owner("acme", "ada@example.com")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_algorithms_of_a_secret(clock: ManualClock, algorithm: str) -> None:
    """Only the configured algorithms are accepted."""
    token = signed(claims(clock), algorithm=algorithm)
    others = [name for name in ("HS256", "HS384", "HS512") if name != algorithm]

    assert outcome_of(tokens_of(clock, SECRET, [algorithm]), token) == Owner("acme", "acme")
    assert outcome_of(tokens_of(clock, SECRET, others), token) == INVALID


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(rsa_key, "RS256"), (rsa_key, "PS512"), (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
     (lambda: ec.generate_private_key(ec.SECP521R1()), "ES512"), (ed25519.Ed25519PrivateKey.generate, "EdDSA")],
)  # fmt: skip
def test_algorithms_of_a_public_key(clock: ManualClock, key: Any, algorithm: str) -> None:
    """A public key, as PEM or in a set, verifies only signatures of its private key."""
    private, token = key(), claims(clock)
    in_pem = tokens_of(clock, public_pem(private).decode(), [algorithm])
    in_a_set = tokens_of(clock, {"keys": [jwk_of(private, "k1")]}, [algorithm])
    other = {"RS256": lambda: rsa_key(3_072), "PS512": lambda: rsa_key(3_072)}.get(algorithm, key)()
    mine, theirs = (signed(token, one, algorithm, kid="k1") for one in (private, other))

    assert [outcome_of(tokens, one) for tokens in (in_pem, in_a_set) for one in (mine, theirs)] == [
        Owner("acme", "acme"),
        INVALID,
    ] * 2


def signed_as(algorithm: object, key: Any, clock: ManualClock, kid: str = "k1") -> str:
    """A token that is signed with EdDSA under this name."""
    body = f"{encoded({'alg': algorithm, 'kid': kid})}.{encoded(claims(clock))}"
    return f"{body}.{base64.urlsafe_b64encode(key.sign(body.encode())).decode().rstrip('=')}"


@pytest.mark.parametrize("in_a_set", [False, True])
@pytest.mark.parametrize("names", [["Ed25519"], ["EdDSA"], ["Ed25519", "EdDSA"]])
def test_names_of_eddsa(clock: ManualClock, names: list[str], in_a_set: bool) -> None:
    """A token or a set may say EdDSA or the name of the curve (RFC 9864)."""
    key, other = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    for alg in ({}, {"alg": "EdDSA"}, {"alg": "Ed25519"}) if in_a_set else ({},):
        given = {"keys": [jwk_of(key, "k1", **alg)]} if in_a_set else public_pem(key)
        tokens = tokens_of(clock, given, names)

        assert [outcome_of(tokens, signed_as(name, key, clock)) for name in ("Ed25519", "EdDSA")] == [ACME] * 2
        wrong = [signed_as(name, key, clock) for name in ("Ed448", "ed25519", "Ed25519 ", "ES256", "none", None)]
        wrong += [signed_as("Ed25519", other, clock)]
        assert {outcome_of(tokens, token) for token in wrong} == {INVALID}


def test_other_curve(clock: ManualClock) -> None:
    """Keys of another curve are refused as PEM, and ignored in a set."""
    small, large = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
    with pytest.raises(InvalidKeyRequest, match="key: not a key for Ed25519"):
        tokens_of(clock, public_pem(large), ["Ed25519"])
    both = {"keys": [jwk_of(small, "k1"), jwk_of(large, "k2")]}
    only_small, only_large, either = (tokens_of(clock, both, [name]) for name in ("Ed25519", "Ed448", "EdDSA"))
    mislabelled = {"keys": [jwk_of(small, "k1", alg="Ed448"), jwk_of(large, "k2", alg="Ed25519"), jwk_of(small, "k3")]}
    of_mislabelled = tokens_of(clock, mislabelled, ["EdDSA"])

    of_small, of_large = signed_as("EdDSA", small, clock), signed_as("EdDSA", large, clock, "k2")
    said = [
        [outcome_of(tokens, token) for token in (of_small, of_large)] for tokens in (only_small, only_large, either)
    ]
    assert said == [[ACME, INVALID], [INVALID, ACME], [ACME, ACME]]
    assert outcome_of(only_large, signed_as("Ed448", large, clock, "k2")) == ACME
    assert {outcome_of(of_mislabelled, token) for token in (of_small, of_large)} == {INVALID}


@pytest.mark.parametrize("claims_text", [b"[]", b'"a"', b"1", b"null", b"", b"{", b"[" * 3_000, b"\xff"])
def test_claims_that_are_no_object(clock: ManualClock, claims_text: bytes) -> None:
    """A signed payload that is not an object is refused like any other invalid token."""
    token = jwt.PyJWS().encode(claims_text, SECRET, algorithm="HS256")

    assert outcome_of(tokens_of(clock), token) == INVALID


NO_SIGNATURE: tuple[Any, ...] = (
    "none", "None", "NONE", "nOnE", "", None, 0, True, [], ["HS256"], {"HS256": 1}, "HS256 ", "hs256",
)  # fmt: skip


@pytest.mark.parametrize("algorithm", NO_SIGNATURE, ids=repr)
def test_algorithm_of_the_token(clock: ManualClock, tokens: AccessTokens, algorithm: Any) -> None:
    """An algorithm that is not configured is refused, whether its signature is missing, empty or valid."""
    header = {"alg": algorithm, "typ": "JWT"}
    body = f"{encoded(header)}.{encoded(claims(clock))}"

    assert {outcome_of(tokens, one) for one in (f"{body}.", body, hand_made(header, claims(clock)))} == {INVALID}


def test_algorithm_confusion(clock: ManualClock) -> None:
    """A token that is signed with HS256 under the issuer's public key is refused."""
    pem = public_pem(rsa_key())
    sets = {"keys": [jwk_of(rsa_key(), "k1")]}
    tries = [
        hand_made({"alg": "HS256", "kid": "k1"}, claims(clock), secret) for secret in (pem, pem.strip(), b"", b"k1")
    ]
    as_rs = [hand_made({"alg": "RS256", "kid": "k1"}, claims(clock), pem)]

    assert {outcome_of(tokens_of(clock, key, ["RS256"]), one) for key in (pem, sets) for one in tries + as_rs} == {
        INVALID
    }


@pytest.mark.parametrize(
    "more",
    [{"jwk": {"kty": "oct", "k": encoded(b"mine" * 16)}}, {"jku": "http://127.0.0.1/keys"}, {"x5u": "http://a/"},
     {"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": False}, {"b64": False, "crit": ["b64"]},
     {"b64": True, "crit": ["b64"]}, {"kid": 1},
     {"kid": "../../../../dev/null"}, {"kid": "' OR 1=1 --"}],
    ids=repr,
)  # fmt: skip
def test_key_in_the_header(clock: ManualClock, tokens: AccessTokens, more: dict[str, Any]) -> None:
    """A key in a token's header is ignored, and a critical extension is refused."""
    header = {"alg": "HS256", **more}
    foreign, ours = hand_made(header, claims(clock), b"mine" * 16), hand_made(header, claims(clock))
    harmless = not {"crit", "b64"} & more.keys() and more.get("kid") != 1

    assert outcome_of(tokens, foreign) == INVALID
    assert outcome_of(tokens, ours) == (Owner("acme", "acme") if harmless else INVALID)


LATER = 10**6
STRANGE: dict[str, dict[str, Any]] = {
    "no end": {"exp": None},
    "an end as text": {"exp": "99999999999"},
    "an end that is true": {"exp": True},
    "a list of ends": {"exp": [99_999_999_999]},
    "an endless end": {"exp": float("inf")},
    "no number": {"exp": float("nan")},
    "a huge end": {"exp": 10**400},
    "an end beyond time": {"exp": 2**53},
    "a far end": {"exp": 1_748_772_000 + LATER},
    "no issuer": {"iss": None},
    "another issuer": {"iss": "https://login.example.com/"},
    "a list of issuers": {"iss": [ISSUER]},
    "no audience": {"aud": None},
    "another audience": {"aud": "wallet-ap"},
    "an audience that has it": {"aud": "wallet-api-2"},
    "other audiences": {"aud": ["wallet", "api"]},
    "audiences within": {"aud": [["wallet-api"]]},
    "an audience of parts": {"aud": {"wallet-api": 1}},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 1},
    "a list of subjects": {"sub": ["acme"]},
    "a long subject": {"sub": "a" * 129},
    "a subject with a space": {"sub": "ac me"},
    "a subject beyond ASCII": {"sub": "acmé"},
    "a subject that cannot be seen": {"sub": "acme\u200b"},
    "a subject that is a key": {"sub": KeyFormat().new().reveal()},
    "from tomorrow on": {"nbf": 1_748_772_000 + 11},
    "from a text on": {"nbf": "0"},
    "issued tomorrow": {"iat": 1_748_772_000 + 11},
    "issued at a text": {"iat": "0"},
    "issued never": {"iat": float("nan")},
    "a long life": {"iat": 1_748_772_000 - 3_600, "exp": 1_748_772_000 + 11},
}


@pytest.mark.parametrize("case", STRANGE)
def test_invalid_claim(clock: ManualClock, tokens: AccessTokens, case: str) -> None:
    """A token with a valid signature is refused if a claim is missing, has the wrong type or another audience."""
    assert outcome_of(tokens, hand_made({"alg": "HS256"}, claims(clock, **STRANGE[case]))) == INVALID


@pytest.mark.parametrize(
    "payload",
    [[], "acme", None, 1, b"", b"{", b"\xff", b'{"sub":"acme"', ("[" * 3_000).encode(), b"\xef\xbb\xbf{}"],
    ids=lambda payload: repr(payload)[:20],
)
def test_invalid_payload(tokens: AccessTokens, payload: Any) -> None:
    """An invalid payload is refused, and causes no other error."""
    assert outcome_of(tokens, hand_made({"alg": "HS256"}, payload)) == INVALID


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "eyJ", "\x00", "a" * 8_192, "." * 8_192, "=.=.=", "é.é.é", "🔑", "a" * 8_193,
     "eyJhbGciOiJIUzI1NiJ9." * 3, encoded([]) + "..", encoded(b"[" * 4_000) + ".e30.", encoded("HS256") + ".e30."],
    ids=lambda token: repr(token)[:20],
)  # fmt: skip
def test_malformed_token(tokens: AccessTokens, token: str) -> None:
    """A malformed token is refused, and causes no other error."""
    assert outcome_of(tokens, token) == INVALID


def test_changed_signature(clock: ManualClock, tokens: AccessTokens) -> None:
    """Changed, shortened and padded signatures are refused, and so are changed claims."""
    header, payload, signature = signed(claims(clock)).split(".")
    mine = encoded(claims(clock, sub="other"))
    changed = [
        signature[:-1] + ("A" if signature[-1] != "A" else "Q"),
        signature[:-1],
        signature[1:],
        "",
        signature + "A",
    ]
    tokens_changed = [f"{header}.{payload}.{one}" for one in changed] + [f"{header}.{mine}.{signature}"]

    assert {outcome_of(tokens, one) for one in tokens_changed} == {INVALID}


def test_large_token(clock: ManualClock, tokens: AccessTokens, monkeypatch: Any) -> None:
    """A token over 8 KiB is refused before it is decoded."""
    looked: list[int] = []
    monkeypatch.setattr(jwt, "get_unverified_header", lambda token: looked.append(len(token)))
    token = signed(claims(clock, more="a" * 5_000_000)).encode()
    line = [(b"authorization", b"Bearer " + token)]
    with pytest.raises(AccessRefused) as caught:
        tokens.owner(request_of("GET", "/", line))

    assert outcome_of(tokens, token) == INVALID
    assert caught.value.code == INVALID
    assert looked == []


def test_largest_token(clock: ManualClock, tokens: AccessTokens) -> None:
    """A token of exactly 8 KiB is accepted."""
    fill = next(n for n in range(6_100, 5_000, -1) if len(signed(claims(clock, more="a" * n))) <= 8_192)

    assert outcome_of(tokens, signed(claims(clock, more="a" * fill))) == Owner("acme", "acme")


def test_expired_token(clock: ManualClock, tokens: AccessTokens) -> None:
    """An otherwise valid token is refused as expired from its end on, plus the leeway."""
    token, foreign = signed(claims(clock)), signed(claims(clock), "f" * 64)
    clock.advance(609_999)
    last = outcome_of(tokens, token)
    clock.advance(1)

    assert last == Owner("acme", "acme")
    assert outcome_of(tokens, token) == EXPIRED
    assert outcome_of(tokens, foreign) == INVALID
    assert outcome_of(tokens, signed(claims(clock, aud="other", exp=1))) == INVALID


def test_maximum_lifetime(clock: ManualClock) -> None:
    """A token with a longer lifetime than the maximum is refused, even near its end."""
    tokens = tokens_of(clock, max_lifetime_s=600, leeway_s=0)
    now_s = clock.now_ms() // 1000
    lives: list[dict[str, Any]] = [{"exp": now_s + 600}, {"exp": now_s + 601}, {"exp": now_s + 1, "iat": now_s - 600},
             {"exp": now_s + 1, "iat": now_s - 599}, {"exp": now_s + 1, "iat": None, "nbf": now_s - 600},
             {"exp": now_s + 600, "iat": None}, {"exp": now_s + 601, "iat": None}]  # fmt: skip

    assert [outcome_of(tokens, signed(claims(clock, **life))) != INVALID for life in lives] == [
        True, False, False, True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("line", [b"Bearer %s", b"bearer  %s", b" BEARER\t%s "])
def test_bearer_scheme(clock: ManualClock, tokens: AccessTokens, line: bytes) -> None:
    """The case of the scheme does not matter."""
    request = request_of("GET", "/", [(b"authorization", line % signed(claims(clock)).encode())])

    assert tokens.owner(request) == Owner("acme", "acme")


@pytest.mark.parametrize(
    ("lines", "code"),
    [([], "access_token_missing"), ([b""], INVALID), ([b"Bearer"], INVALID), ([b"Bearer "], INVALID),
     ([b"Basic %s"], INVALID), ([b"%s"], INVALID), ([b"Bearer %s", b"Bearer %s"], INVALID),
     ([b"Bearer %s,Bearer %s"], INVALID), ([b"Bearer %s,"], INVALID), ([b"Bearer %s %s"], INVALID),
     ([b'Bearer "%s"'], INVALID), ([b"Bearer %s\x00"], INVALID), ([b"Bearer\xa0%s"], INVALID),
     ([b"Bearer " + b" " * 20_000 + b"%s"], INVALID)],
    ids=lambda lines: repr(lines)[:30],
)  # fmt: skip
def test_other_headers(clock: ManualClock, tokens: AccessTokens, lines: list[bytes], code: str) -> None:
    """Two headers and other schemes are invalid; only a missing header is 'missing'."""
    token = signed(claims(clock)).encode()
    sent = [(b"authorization", line.replace(b"%s", token)) for line in lines]
    with pytest.raises(AccessRefused) as caught:
        tokens.owner(request_of("GET", "/", sent))

    assert caught.value.code == code


def test_log(clock: ManualClock, tokens: AccessTokens, caplog: Any) -> None:
    """The log has the reason of a refusal, and no part of the token."""
    caplog.set_level(logging.INFO, "awx_ratelimit.management")
    token = signed(claims(clock, aud="somebody-else", sub="a-subject"))
    with pytest.raises(AccessRefused):
        tokens.owner(request_of("GET", "/", [(b"authorization", f"Bearer {token}".encode())]))

    text = caplog.text
    assert "its audience is wrong" in text
    assert [part for part in (*token.split("."), "a-subject") if part in text] == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"exp": 9_999}, "its lifetime exceeds 3600 s; issue tokens that expire sooner, or raise max_lifetime_s"),
        ({"iss": "https://elsewhere"}, f"iss must be {ISSUER!r}"),
        ({"aud": "elsewhere"}, f"aud must be or contain {AUDIENCE!r}"),
        ({"exp": None}, "exp is required"),
        ({"iat": 500}, "iat or nbf is in the future; check the clocks, or increase leeway_s"),
        ({"nbf": "soon"}, "nbf is not a time"),
        ({"sub": ""}, "sub is missing or not a valid id"),
        ({"key": "another secret, which is as long as it has to be for HS256"}, "InvalidSignatureError"),
    ],
)
def test_sampled_warnings(
    tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch, caplog: Any, fields: dict[str, Any], why: str
) -> None:
    """Each reason is logged once a minute, with what to change, however many tokens are refused."""
    now_s = [0.0]
    monkeypatch.setattr(tokens._refusals, "_clock", lambda: now_s[0])
    key = fields.pop("key", SECRET)
    clock = ManualClock(tokens.now_ms())
    from_now = {name: clock.now_ms() // 1000 + value for name, value in fields.items() if isinstance(value, int)}
    token = signed(claims(clock, **{**fields, **from_now}), key)
    request = request_of("GET", "/", [(b"authorization", f"Bearer {token}".encode())])
    for now_s[0] in (0.0, 1.0, 59.9, 60.0):
        with pytest.raises(AccessRefused):
            tokens.owner(request)

    first, second = caplog.records
    assert {first.levelname, second.levelname} == {"WARNING"}
    assert why in first.getMessage()
    assert second.getMessage() == f"{first.getMessage()} (2 more like this were not logged)"


def test_expired_token_logs_nothing(clock: ManualClock, tokens: AccessTokens, caplog: Any) -> None:
    """An expired token logs no warning, because its client only has to get a new one."""
    token = signed(claims(clock, iat=None))
    clock.advance(3_600_000)
    with pytest.raises(AccessRefused):
        tokens.owner(request_of("GET", "/", [(b"authorization", f"Bearer {token}".encode())]))

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_flood_of_one_reason(clock: ManualClock, tokens: AccessTokens, caplog: Any) -> None:
    """Each reason has a separate line, so a flood of forged tokens hides no other problem."""
    for token in [*["forged"] * 100, signed(claims(clock, aud="elsewhere"))]:
        with pytest.raises(AccessRefused):
            tokens.owner(request_of("GET", "/", [(b"authorization", f"Bearer {token}".encode())]))

    assert len(caplog.records) == 2
    assert "its audience is wrong" in caplog.records[1].getMessage()


#: RSA keys are created by the test that needs them, and not by every worker.
WRONG: dict[str, tuple[Any, Any, str]] = {
    "no algorithm": (SECRET, [], "algorithms"),
    "a text": (SECRET, "HS256", "algorithms"),
    "none": (SECRET, ["none"], "algorithms"),
    "none among others": (SECRET, ["HS256", "none"], "algorithms"),
    "an unknown one": (SECRET, ["HS1"], "algorithms"),
    "secret and public key": (SECRET, ["HS256", "RS256"], "not a key for RS256"),
    "a short secret": ("s" * 31, ["HS256"], "too short for HS256"),
    "too short for one": ("s" * 63, ["HS256", "HS512"], "too short for HS512"),
    "no secret": ("", ["HS256"], "key"),
    "None": (None, ["HS256"], "not a key for HS256"),
    "a public key as a secret": (lambda: public_pem(rsa_key()), ["HS256"], "not a key for HS256"),
    "a public key for both": (lambda: public_pem(rsa_key()), ["RS256", "HS256"], "not a key for HS256"),
    "an RSA key for ES": (lambda: public_pem(rsa_key()), ["ES256"], "not a key for ES256"),
    "a small RSA key": (lambda: public_pem(rsa_key(1_024)), ["RS256"], "too short for RS256"),
    "another curve": (lambda: public_pem(ec.generate_private_key(ec.SECP384R1())), ["ES256"], "not a key for ES256"),
    "a private key": (
        lambda: rsa_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        ["RS256"],
        "private key",
    ),
    "an empty set": ({"keys": []}, ["RS256"], "no usable key"),
    "no set": ({"a": 1}, ["RS256"], "no usable key"),
    "a set of secrets": ({"keys": [{"kty": "oct", "k": encoded(SECRET.encode())}]}, ["HS256"], "no usable key"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_invalid_configuration(clock: ManualClock, case: str) -> None:
    """A weak or contradictory configuration is an error at the start, and the error does not contain the key."""
    given, algorithms, says = WRONG[case]
    key = given() if callable(given) else given
    with pytest.raises(InvalidKeyRequest, match=says) as caught:
        tokens_of(clock, key, algorithms)

    assert not (isinstance(key, str) and key and key in str(caught.value))


@pytest.mark.parametrize(
    "field",
    [{"issuer": ""}, {"issuer": None}, {"audience": ""}, {"audience": ["a"]}, {"account_claim": ""}, {"leeway_s": -1},
     {"leeway_s": 301}, {"leeway_s": True}, {"max_lifetime_s": 0}, {"max_lifetime_s": 10**9},
     {"max_lifetime_s": 1.5}],
    ids=repr,
)  # fmt: skip
def test_invalid_field(clock: ManualClock, field: dict[str, Any]) -> None:
    """An empty text and a number out of range are refused."""
    with pytest.raises(InvalidKeyRequest, match=next(iter(field))):
        tokens_of(clock, **field)


class TestSets:
    """Keys in a JSON Web Key Set."""

    def test_key_id(self, clock: ManualClock) -> None:
        """Of several keys the one with the token's key id is used; unknown and missing ids are refused."""
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        tokens = tokens_of(clock, {"keys": [jwk_of(key, f"k{n}") for n, key in enumerate(keys)]}, ["ES256"])
        named = [
            signed(claims(clock), key, "ES256", kid=kid)
            for key, kid in zip(keys * 2, ["k0", "k1", "k1", "k9"], strict=True)
        ]

        assert [outcome_of(tokens, one) for one in (*named, signed(claims(clock), keys[0], "ES256"))] == [
            Owner("acme", "acme"), Owner("acme", "acme"), INVALID, INVALID, INVALID,
        ]  # fmt: skip

    def test_set_of_one_key(self, clock: ManualClock) -> None:
        """A set with one key verifies tokens without a key id."""
        key = ec.generate_private_key(ec.SECP256R1())

        assert outcome_of(
            tokens_of(clock, {"keys": [jwk_of(key, "k1")]}, ["ES256"]), signed(claims(clock), key, "ES256")
        ) == Owner("acme", "acme")

    def test_unusable_keys(self, clock: ManualClock) -> None:
        """Keys for encryption or another algorithm, and private, weak or invalid keys, are ignored."""
        key, small = rsa_key(), rsa_key(1_024)
        private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key)) | {"kid": "d"}
        members = [jwk_of(key, "a", use="enc"), jwk_of(key, "b", alg="RS512"), private, jwk_of(small, "e"),
                   {"kty": "RSA", "kid": "f", "n": "!", "e": "AQAB"}, "g", None, jwk_of(key, "h") | {"kid": 1},
                   {"kty": "oct", "kid": "i", "k": encoded(b"s" * 32)}]  # fmt: skip
        tokens = tokens_of(clock, {"keys": [*members, jwk_of(key, "z", use="sig", alg="RS256")]}, ["RS256"])
        with warnings.catch_warnings():
            # An attacker would sign with the weak one.
            warnings.simplefilter("ignore")
            signed_by = {kid: small if kid == "e" else key for kid in "abdefz"}
            sent = {kid: signed(claims(clock), one, "RS256", kid=kid) for kid, one in signed_by.items()}
        said = {kid: outcome_of(tokens, token) for kid, token in sent.items()}

        assert said == dict.fromkeys("abdef", INVALID) | {"z": Owner("acme", "acme")}

    @pytest.mark.parametrize(
        "url", ["http://login.example.com/keys", "file:///etc/passwd", "ftp://a/b", "", "keys.json"]
    )
    def test_insecure_url(self, url: str) -> None:
        """A URL without TLS is refused, because anyone on the way could replace the keys."""
        with pytest.raises(InvalidKeyRequest, match="https"):
            Jwks.at(url)
