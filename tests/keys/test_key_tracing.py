"""`KeyService.operator` finds whose key it is, on each database."""

from typing import Any

import pytest
from sqlalchemy import text

from awx_ratelimit import Caller
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest, KeyNotFound
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.testing import ManualClock


@pytest.fixture
def service(store: KeyStore, clock: ManualClock) -> KeyService:
    """A service with the accounts ``acme`` and ``other``."""
    service = KeyService(store, clock=clock)
    service.accounts.create("acme", plan="growth")
    service.accounts.create("other")
    return service


def test_masked(service: KeyService) -> None:
    """The masked form and the id find a key, and nothing else does."""
    key = service.create("acme", "n").key
    service.create("other", "n")

    for shown in (key.masked, f" ...{key.masked[-4:]}\n", key.id):
        assert [one.key for one in service.operator.keys.shown_as(shown)] == [key]
    assert service.operator.keys.shown_as(f"awx_test_...{key.masked[-4:]}") == ()


def test_states(service: KeyService, clock: ManualClock) -> None:
    """The state says why the requests of a key are refused: revoked before expired, and expired before suspended."""
    keys = [service.create("acme", "n", expires_in_days=days).key for days in (None, 1, 1)]
    service.revoke("acme", keys[2].id)
    revoked_at = clock.now_ms()
    clock.advance(2 * 86_400_000)
    before = [service.operator.keys.shown_as(key.id)[0] for key in keys]
    service.accounts.suspend("acme")
    after = [service.operator.keys.shown_as(key.id)[0] for key in keys]

    assert [one.state for one in before] == ["active", "expired", "revoked"]
    assert [one.state for one in after] == ["suspended", "expired", "revoked"]
    assert [one.revoked_at for one in after] == [None, None, utc_datetime(revoked_at)]


def test_text(service: KeyService) -> None:
    """The whole text finds a key, and is no use of it."""
    created = service.create("acme", "n")
    found = service.operator.keys.of_text(created.secret.reveal())

    assert found is not None
    assert found.key == created.key
    assert found.key.last_used_at is None
    assert service.operator.keys.of_text("awx_unknown") is None


@pytest.mark.parametrize("shown", ["awx_", "awx_...", "%", "key_", "awx_...x4f2 and more", 5])
def test_not_shown(service: KeyService, shown: Any) -> None:
    """What nothing shows of a key is an error that says what is expected."""
    with pytest.raises(
        InvalidKeyRequest, match=r"expected the masked form of a key, such as awx_\.\.\.x4f2, or the id"
    ):
        service.operator.keys.shown_as(shown)


def test_whole_key_is_not_shown(service: KeyService) -> None:
    """A whole key in the place of its masked form is refused, and not repeated."""
    secret = service.create("acme", "n").secret.reveal()

    with pytest.raises(InvalidKeyRequest, match="contains an API key") as raised:
        service.operator.keys.shown_as(secret)
    assert secret not in str(raised.value)


def test_bounded(service: KeyService, store: KeyStore) -> None:
    """At most 100 keys are found."""
    service.accounts.set_max_keys("acme", 200)
    for _ in range(101):
        service.create("acme", "n")
    with store._engines.writing.begin() as connection:
        connection.execute(text("UPDATE awx_api_keys SET last4 = 'same'"))

    assert len(service.operator.keys.shown_as("...same")) == 100


def test_caller_of_a_key(service: KeyService, clock: ManualClock) -> None:
    """A key by its id is its family, with the overrides of its account that apply now, also if it is revoked."""
    old = service.create("acme", "n").key
    new = service.rotate("acme", old.id).key
    service.accounts.set_overrides("acme", {"per_minute": 5})
    service.accounts.override("acme", {"per_minute": 9}, until=utc_datetime(clock.now_ms() + 1_000))
    service.revoke("acme", old.id)
    during = service.operator.caller_of(new.id)
    clock.advance(1_000)

    assert during == Caller(old.id, "growth", "acme", {"per_minute": 9})
    for key in (old, new):
        assert service.operator.caller_of(key.id, "acme") == Caller(old.id, "growth", "acme", {"per_minute": 5})


def test_caller_of_an_account(service: KeyService) -> None:
    """Any other subject has the plan and the overrides of the account that is named; without one it is unknown."""
    service.accounts.set_overrides("acme", {"per_minute": 5})

    assert service.operator.caller_of("alice", "acme") == Caller("alice", "growth", "acme", {"per_minute": 5})
    assert service.operator.caller_of("alice") is None
    assert service.operator.caller_of("key_0123456789abcdef") is None


def test_no_caller(service: KeyService) -> None:
    """An unknown account, and a key of another account, are errors."""
    key = service.create("acme", "n").key

    with pytest.raises(AccountNotFound):
        service.operator.caller_of("alice", "acne")
    with pytest.raises(KeyNotFound):
        service.operator.caller_of(key.id, "other")
