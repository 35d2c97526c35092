"""How a verifier learns of revocations and other changes, on each database."""

import pytest
from sqlalchemy import text
from tests.keys.store_probes import Call, paused_look_ups, statements
from tests.keys.verifications import code_of, new_key
from tests.machine import eventually

from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock


def test_revocation_in_this_process(service: KeyService, verifier: KeyVerifier) -> None:
    """When `revoke` has returned, this process refuses the key without a poll."""
    key_id, key = new_key(service)
    verifier.verify(key)
    service.revoke("acme", key_id)

    assert verifier.verify_cached(key) is None
    assert code_of(verifier.verify, key) == "api_key_revoked"


def test_account_change_in_this_process(service: KeyService, verifier: KeyVerifier) -> None:
    """A new plan, overrides and status apply to the next request of each key of the account."""
    _, key = new_key(service)
    seen = [verifier.verify(key)]
    service.accounts.set_plan("acme", "growth")
    seen.append(verifier.verify(key))
    service.accounts.set_overrides("acme", {"per_day": 1})
    seen.append(verifier.verify(key))
    service.accounts.suspend("acme")
    suspended = code_of(verifier.verify, key)
    service.accounts.activate("acme")
    seen.append(verifier.verify(key))

    assert [(caller.plan, caller.overrides) for caller in seen] == [
        ("starter", None),
        ("growth", None),
        ("growth", {"per_day": 1}),
        ("growth", {"per_day": 1}),
    ]
    assert suspended == "api_key_revoked"


def test_revocation_in_another_process(service: KeyService, others: KeyService, verifier: KeyVerifier) -> None:
    """A key that another process revoked is accepted until the next poll, and refused afterwards."""
    key_id, key = new_key(service)
    verifier.verify(key)
    others.revoke("acme", key_id)
    before = code_of(verifier.verify, key)
    verifier.poll()

    assert before == "ok"
    assert code_of(verifier.verify, key) == "api_key_revoked"


def test_poll(service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier) -> None:
    """A poll is one statement, and removes only keys of changed accounts from the cache."""
    service.accounts.create("other")
    _, mine = new_key(service)
    _, theirs = new_key(service, "other")
    verifier.verify(mine)
    verifier.verify(theirs)
    others.accounts.set_plan("other", "growth")
    others.create("acme", "a new key is no news")
    with statements(store, polls=True) as sent:
        verifier.poll()
        verifier.poll()

    assert len(sent) == 2
    assert verifier.verify_cached(mine) is not None
    assert verifier.verify_cached(theirs) is None


@pytest.mark.parametrize("end", ["DELETE FROM awx_key_changes", "DELETE FROM awx_key_changes WHERE number < 3"])
def test_missing_last_change(
    service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier, end: str
) -> None:
    """If the last change that was seen no longer exists, as after restoring a backup, the cache is emptied."""
    _, key = new_key(service)
    others.accounts.set_plan("acme", "growth")
    others.accounts.set_plan("acme", "starter")
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    with store._engines.writing.begin() as connection:
        connection.execute(text(end))
    verifier.poll()

    assert verifier.verify(key).plan == "growth"


def test_replaced_last_change(service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier) -> None:
    """If other changes have replaced the last one that was seen, keys of all accounts are removed from the cache."""
    _, key = new_key(service)
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    with store._engines.writing.begin() as connection:
        connection.execute(text("DELETE FROM awx_key_changes"))
        connection.execute(text("INSERT INTO awx_key_changes (number, account_id, at_ms) VALUES (9, 'x', 1)"))
    verifier._position = 5
    verifier.poll()

    assert verifier.verify(key).plan == "growth"


def test_many_changes(service: KeyService, others: KeyService, verifier: KeyVerifier, store: KeyStore) -> None:
    """After more than a thousand changes the cache is emptied, and the poll continues from the newest."""
    _, key = new_key(service)
    verifier.verify(key)
    with store._engines.writing.begin() as connection:
        row = {"account": "none", "at_ms": 1}
        connection.execute(
            text("INSERT INTO awx_key_changes (account_id, at_ms) VALUES (:account, :at_ms)"), [row] * 1_001
        )
    verifier.poll()
    behind = verifier.verify_cached(key)
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    verifier.poll()

    assert behind is None
    assert verifier.verify(key).plan == "growth"


def test_old_changes(service: KeyService, store: KeyStore, clock: ManualClock) -> None:
    """Changes are kept for an hour, and their numbers are never used again."""
    service.accounts.set_plan("acme", "growth")
    clock.advance(3_600_001)
    service.accounts.set_plan("acme", "starter")
    with store._engines.reading.connect() as connection:
        numbers = list(connection.execute(text("SELECT number FROM awx_key_changes")).scalars())

    assert numbers == [2]


@pytest.mark.parametrize("by", ["this process", "another process"])
def test_revocation_during_a_look_up(
    service: KeyService, others: KeyService, store: KeyStore, verifier: KeyVerifier, by: str
) -> None:
    """A key that is revoked during its look-up is not cached as valid."""
    key_id, key = new_key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        early = Call(verifier.verify, key)
        held.reached.wait(10)
        if by == "this process":
            service.revoke("acme", key_id)
        else:
            others.revoke("acme", key_id)
            verifier.poll()
        held.let_go.set()
        # It began before the revocation, so both outcomes are correct.
        early.ended()

    assert verifier.verify_cached(key) is None
    assert code_of(verifier.verify, key) == "api_key_revoked"


def test_request_after_a_revocation(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """A request that begins after a revocation does not join a look-up that began before it."""
    key_id, key = new_key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        early = Call(verifier.verify, key)
        held.reached.wait(10)
        service.revoke("acme", key_id)
        late = Call(verifier.verify, key)
        looked_up = eventually(lambda: held.number, 2)
        held.let_go.set()
        ended = late.ended()
        early.ended()

    assert looked_up == 2
    assert getattr(ended, "code", ended) == "api_key_revoked"


def test_failing_listener(service: KeyService, store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a listener of the store is logged, and the change succeeds."""

    class Listener:
        def fail(self, account_id: str) -> None:
            raise ArithmeticError

    listener = Listener()
    store.subscribe(listener.fail)
    service.accounts.set_plan("acme", "growth")

    assert service.accounts.get("acme").plan == "growth"
    assert "a listener of the key store failed" in caplog.text
