"""Wrong arguments of identifiers, key services and access tokens."""

import pytest
from tests.mistakes.cases import Mistake, assert_refused, each, sync_gate

from awx_ratelimit import InvalidLimit, StaticKeys
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.management.auth.signing import ALGORITHMS

MISTAKES: list[Mistake] = [
    (
        'StaticKeys(["awx_example_key"])',
        TypeError,
        'StaticKeys: expected a mapping such as {key: "starter"}, got a list; '
        "for the keys of a store, write identify=StoredKeys(verifier)",
    ),
    (
        'StaticKeys("awx_example_key")',
        TypeError,
        'StaticKeys: expected a mapping such as {key: "starter"}, got a str; '
        "for the keys of a store, write identify=StoredKeys(verifier)",
    ),
    (
        'StaticKeys({b"awx_example_key": "starter"})',
        TypeError,
        "StaticKeys: key 1: expected a string, got bytes",
    ),
    (
        'StaticKeys({"awx_example_key": 5})',
        TypeError,
        "StaticKeys: the value of key 1: expected a plan's name or a Caller, got 5 (int)",
    ),
    (
        'StaticKeys({"awx_example_key": None})',
        TypeError,
        "StaticKeys: the value of key 1: expected a plan's name or a Caller, got None (NoneType)",
    ),
    (
        'sync_gate(identify=StaticKeys({"awx_example_key": "stater"}))',
        InvalidLimit,
        "StaticKeys: key 1: plan: there is no plan 'stater'; allowed are starter, growth; did you mean 'starter'?",
    ),
    (
        'sync_gate(identify=StaticKeys({"starter": "awx_example_key"}))',
        InvalidLimit,
        "StaticKeys: expected a key, got the plan 'starter'; write {key: 'starter'}",
    ),
    (
        "StoredKeys(KeyVerifier)",
        TypeError,
        "verifier: expected a KeyVerifier, got the class KeyVerifier; write KeyVerifier(store)",
    ),
    (
        'StoredKeys("keys.db")',
        TypeError,
        "verifier: expected a KeyVerifier, got a str; write KeyVerifier(store)",
    ),
    (
        'KeyVerifier("keys.db")',
        TypeError,
        "store: expected a KeyStore, got a str; write KeyVerifier(KeyStore.open('keys.db'))",
    ),
    (
        "KeyService(KeyStore)",
        TypeError,
        "store: expected a KeyStore, got the class KeyStore; write KeyService(KeyStore.open('keys.db'))",
    ),
    (
        "KeyStore.open(None)",
        TypeError,
        "address: expected a path or a URL such as postgresql://user@host/database, got None",
    ),
    (
        'ManagementApi("keys.db", "secret", limiter=limiter, plans=table)',
        TypeError,
        "tokens: expected AccessTokens, got a str; write ManagementApi(KeyService(store), AccessTokens(...), ...)",
    ),
    (
        'tokens(algorithms="HS256")',
        InvalidKeyRequest,
        f"algorithms: expected a list of {', '.join(ALGORITHMS)}, got 'HS256'",
    ),
    (
        "tokens(leeway_s=3_600)",
        InvalidKeyRequest,
        "leeway_s: expected an integer from 0 to 300, got 3600 (int)",
    ),
    (
        "tokens(issuer=None)",
        InvalidKeyRequest,
        "issuer: expected a non-empty string, got None (NoneType)",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A wrong argument is refused when the object is created."""
    assert_refused(mistake)


@pytest.mark.parametrize(
    ("swapped", "reason"),
    [
        ({"starter": "a_secret_of_another_form"}, "expected a key, got the plan 'starter'"),
        ({"premium": "awx_example_key"}, "expected a plan, got a key"),
    ],
)
def test_swapped_keys_and_plans(swapped: dict[str, str], reason: str) -> None:
    """If keys and plans are swapped, no key is in the error, nor in an earlier error that a traceback would show."""
    error = rf"^StaticKeys: {reason}; write \{{key: .starter.\}}$"
    with pytest.raises(InvalidLimit, match=error) as caught:
        sync_gate(identify=StaticKeys(swapped))

    assert caught.value.__context__ is None
