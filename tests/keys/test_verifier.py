"""Verifying keys, from the cache and from the store, on each database."""

import pytest
from tests.keys.store_probes import statements
from tests.keys.verifications import DAY_MS, KEY, Make, code_of, new_key

from awx_ratelimit import Caller
from awx_ratelimit.errors import KeyNotFound, KeyRefused, KeyStoreUnavailable
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock


def test_caller(service: KeyService, verifier: KeyVerifier) -> None:
    """The caller is the key's family with its account's plan and overrides, from the store and from the cache."""
    service.accounts.set_overrides("acme", {"per_minute": 90})
    key_id, key = new_key(service)
    expected = Caller(key_id, "starter", "acme", {"per_minute": 90})

    assert verifier.verify_cached(key) is None
    assert verifier.verify(key) == expected
    assert verifier.verify_cached(key) == expected
    assert verifier.verify(b" \t" + key + b"\t ") == expected


def test_successor_shares_the_subject(service: KeyService, verifier: KeyVerifier) -> None:
    """A key and its successor have the same subject, so rotation doubles no limit."""
    key_id, old = new_key(service)
    new = service.rotate("acme", key_id).secret.reveal().encode()

    assert [verifier.verify(key).subject for key in (old, new)] == [key_id, key_id]


def test_cache(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """Valid and unknown keys are looked up once."""
    _, key = new_key(service)
    verifier.verify(key)
    code_of(verifier.verify, KEY)
    with statements(store) as sent:
        codes = [code_of(verifier.verify, one) for one in (key, KEY, key, KEY)]

    assert codes == ["ok", "invalid_api_key"] * 2
    assert sent == []


@pytest.mark.parametrize("known", [True, False])
def test_cache_lifetime(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock, known: bool
) -> None:
    """A valid key is cached for 30 s and an unknown one for 5 s; then they are looked up again."""
    _, key = new_key(service) if known else ("", KEY)
    verifier.poll()
    sent_after = {}
    for ms in (0, 4_999, 1, 24_999, 1) if not known else (0, 29_999, 1):
        clock.advance(ms)
        with statements(store) as sent:
            code_of(verifier.verify, key)
        sent_after[clock.now_ms()] = len(sent)

    assert list(sent_after.values()) == ([1, 0, 1] if known else [1, 0, 1, 1, 0])


def test_clock_steps_back(service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A key whose look-up lies in the future is looked up again, because its age is unknown."""
    _, key = new_key(service)
    verifier.verify(key)
    clock.advance(-1)
    with statements(store) as sent:
        verifier.verify(key)

    assert len(sent) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b" ",
        b"awx_",
        KEY[:-1],
        KEY[:-1] + b"0",
        KEY + b"\n",
        b"\r" + KEY,
        KEY + b"," + KEY,
        b"awx_\xff" + KEY[5:],
        b"Bearer " + KEY,
        KEY.upper(),
        b"a" * 128,
        b"a" * 129,
        b"a" * 1_000_000,
        KEY + b" " * 1_000 + b"x",
    ],
)
def test_malformed_key(store: KeyStore, verifier: KeyVerifier, sent: bytes) -> None:
    """A malformed key is refused without a statement, and the error does not contain it."""
    with statements(store) as asked, pytest.raises(KeyRefused) as caught:
        verifier.verify(sent)

    assert caught.value.code == "invalid_api_key"
    assert caught.value.args == ("invalid_api_key",)
    assert asked == []


def test_long_key(verifiers: Make) -> None:
    """A text that is too long for a key is refused before its digest is computed."""
    form, digested = KeyFormat(), []
    form.digest = lambda key: digested.append(key) or bytes(32)  # type: ignore[func-returns-value]
    verifier = verifiers(keys=form)
    codes = [code_of(verifier.verify, b"a" * length) for length in (128, 129, 1_000_000)]

    assert codes == ["invalid_api_key"] * 3
    assert [len(key) for key in digested] == [128]


def test_statements_of_invalid_keys(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock
) -> None:
    """Every kind of refused key needs one statement, and only a valid digest gets its specific code."""
    service.accounts.create("away")
    ids, keys = {}, {"unknown": KEY}
    for name, account in (("revoked", "acme"), ("rotated", "acme"), ("suspended", "away"), ("active", "acme")):
        ids[name], keys[name] = new_key(service, account)
    _, keys["expired"] = new_key(service, expires_in_days=1)
    _, keys["expired of a suspended account"] = new_key(service, "away", expires_in_days=1)
    ids["expired and revoked"], keys["expired and revoked"] = new_key(service, expires_in_days=1)
    service.revoke("acme", ids["revoked"])
    service.revoke("acme", ids["expired and revoked"])
    service.rotate("acme", ids["rotated"], grace_period_seconds=1)
    service.accounts.suspend("away")
    clock.advance(DAY_MS)
    verifier.poll()
    seen = {}
    for name, key in keys.items():
        with statements(store) as sent:
            seen[name] = (code_of(verifier.verify, key), len(sent))

    assert seen == {
        "unknown": ("invalid_api_key", 1),
        "revoked": ("api_key_revoked", 1),
        "rotated": ("api_key_expired", 1),
        "suspended": ("api_key_revoked", 1),
        "active": ("ok", 1),
        "expired": ("api_key_expired", 1),
        "expired of a suspended account": ("api_key_expired", 1),
        "expired and revoked": ("api_key_revoked", 1),
    }


def test_cached_key_expires(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A cached key expires at its millisecond."""
    _, key = new_key(service, expires_in_days=1)
    clock.advance(DAY_MS - 1)
    before = code_of(verifier.verify, key)
    clock.advance(1)

    assert before == "ok"
    assert code_of(verifier.verify_cached, key) == "api_key_expired"


def test_cached_key_after_its_grace_period(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A cached key that was rotated is refused at the end of its grace period."""
    key_id, key = new_key(service)
    service.rotate("acme", key_id, grace_period_seconds=10)
    clock.advance(9_999)
    before = code_of(verifier.verify, key)
    clock.advance(1)

    assert before == "ok"
    assert code_of(verifier.verify_cached, key) == "api_key_expired"


def test_bounded_cache(service: KeyService, store: KeyStore, verifiers: Make) -> None:
    """Least recently used keys are evicted first; unknown keys have a separate cache."""
    verifier = verifiers(max_keys=2)
    keys = [new_key(service)[1] for _ in range(3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        verifier.verify(key)
    for _ in range(5):
        code_of(verifier.verify, KeyFormat().new().reveal().encode())

    assert [verifier.verify_cached(key) is not None for key in keys] == [True, False, True]
    assert {name: verifier.health()[name] for name in ("known", "unknown")} == {"known": 2, "unknown": 2}


def test_closed_verifier(service: KeyService, verifier: KeyVerifier) -> None:
    """A closed verifier accepts no key, not even a cached one, because it learns of no revocations."""
    _, key = new_key(service)
    verifier.verify(key)
    verifier.close()

    with pytest.raises(KeyStoreUnavailable, match="closed"):
        verifier.verify(key)


def test_other_pepper(service: KeyService, verifiers: Make) -> None:
    """A verifier with another pepper accepts no key."""
    _, key = new_key(service)

    assert code_of(verifiers(keys=KeyFormat(pepper=bytes(16))).verify, key) == "invalid_api_key"


def test_other_format(store: KeyStore, service: KeyService, verifiers: Make) -> None:
    """A service and a verifier with the same format agree."""
    form = KeyFormat("awx_test_", pepper=bytes(16))
    created = KeyService(store, keys=form).create("acme", "n")

    assert verifiers(keys=form).verify(created.secret.reveal().encode()).subject == created.key.id


def test_inspection(service: KeyService, verifier: KeyVerifier) -> None:
    """A key can be inspected by its text or its id, and neither is a use of it."""
    service.accounts.set_overrides("acme", {"per_minute": 90})
    key_id, key = new_key(service)
    expected = Caller(key_id, "starter", "acme", {"per_minute": 90})

    assert verifier.inspect(b" " + key) == expected
    assert service.accounts.caller(key_id) == expected
    assert service.accounts.caller(key_id, "acme") == expected
    verifier.write_uses()
    assert service.get("acme", key_id).last_used_at is None


def test_inspection_of_wrong_keys(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """An inspection refuses a key as a verification does; an id that the account does not have is not found."""
    revoked, revoked_key = new_key(service)
    service.revoke("acme", revoked)
    expired, expired_key = new_key(service)
    service.rotate("acme", expired, grace_period_seconds=0)
    clock.advance(1)

    assert [code_of(verifier.inspect, key) for key in (revoked_key, expired_key, KEY, b"x" * 200)] == [
        "api_key_revoked",
        "api_key_expired",
        "invalid_api_key",
        "invalid_api_key",
    ]
    for key_id, code in ((revoked, "api_key_revoked"), (expired, "api_key_expired")):
        with pytest.raises(KeyRefused, match=code):
            service.accounts.caller(key_id, "acme")
    for key_id, account_id in (("key_0000000000000000", "acme"), ("nonsense", None), (expired, "other")):
        with pytest.raises(KeyNotFound):
            service.accounts.caller(key_id, account_id)
