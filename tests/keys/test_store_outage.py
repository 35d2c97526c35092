"""A store that is down, slow, locked, full, read-only or damaged: cached keys work, and no other key is accepted."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import event
from tests.keys.conftest import START_MS
from tests.keys.store_probes import Call
from tests.machine import eventually, timed
from tests.postgres_servers import Postgres

from awx_ratelimit.errors import KeyStoreUnavailable, KeyStoreUnusable
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock

Make = Callable[..., KeyVerifier]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@pytest.fixture
def sqlite(path: Path) -> Iterator[KeyStore]:
    """A store in a file that waits 100 ms for a lock."""
    store = KeyStore.open(path, timeout_ms=100)
    KeyService(store).accounts.create("acme", plan="starter")
    yield store
    store.close()


@pytest.fixture
def address(postgres: Postgres) -> str:
    return postgres.emptied_store()


@pytest.fixture
def postgresql(address: str) -> Iterator[KeyStore]:
    """A store on PostgreSQL that waits as long for a response as a busy machine may take."""
    store = KeyStore.open(address)
    KeyService(store).accounts.create("acme", plan="starter")
    yield store
    store.close()


@pytest.fixture
def impatient(address: str, postgresql: KeyStore) -> Iterator[KeyStore]:
    """The same store, opened by a process that waits a second for a response."""
    store = KeyStore.open(address, timeout_ms=1_000)
    yield store
    store.close()


def _keys(store: KeyStore, number: int) -> list[bytes]:
    service = KeyService(store)
    return [service.create("acme", "n").secret.reveal().encode() for _ in range(number)]


def _refused_s(verifier: KeyVerifier, key: bytes) -> float:
    """The seconds after which the key is refused because the store does not respond."""
    began_s = time.monotonic()
    with pytest.raises(KeyStoreUnavailable) as caught:
        verifier.verify(key)
    assert caught.value.code == "key_store_unavailable"
    return time.monotonic() - began_s


def test_stopped_database(postgres: Postgres, postgresql: KeyStore, verifier_of: Make, clock: ManualClock) -> None:
    """While the database is down, cached keys work for 30 s and others fail at once; then all work again."""
    verifier = verifier_of(postgresql)
    service = KeyService(postgresql)
    known, unseen = _keys(postgresql, 2)
    verifier.verify(known)
    postgres.stop()
    try:
        with timed() as watch:
            refused_s = _refused_s(verifier, unseen)
            clock.advance(29_999)
            remembered = verifier.verify(known).account
            clock.advance(1)
            outdated_s = _refused_s(verifier, known)
        with pytest.raises(KeyStoreUnavailable):
            service.create("acme", "n")
        with pytest.raises(KeyStoreUnavailable):
            verifier.poll()
        with pytest.raises(KeyStoreUnavailable):
            verifier.write_uses()
    finally:
        postgres.start()

    assert remembered == "acme"
    assert [verifier.verify(key).account for key in (known, unseen)] == ["acme", "acme"]
    assert max(refused_s, outdated_s) < watch.limit(1)
    # Every operation and every thread recovers by itself, at the first try.
    service.create("acme", "n")
    verifier.poll()
    verifier.write_uses()
    used_ms = {round((key.last_used_at or key.created_at).timestamp() * 1000) for key in service.list("acme").items[1:]}
    assert used_ms == {START_MS + 30_000}


def test_restarted_database(postgres: Postgres, postgresql: KeyStore) -> None:
    """Connections that a restart closed cause no error, neither when reading nor when writing."""
    service = KeyService(postgresql)
    service.list("acme")
    postgres.stop()
    postgres.start()
    service.create("acme", "n")
    postgres.stop()
    postgres.start()

    assert service.list("acme").total == 1


def test_hanging_database(postgres: Postgres, postgresql: KeyStore, verifier_of: Make) -> None:
    """A server that never responds blocks no caller longer than the budget, and is used again later."""
    verifier = verifier_of(postgresql, budget_ms=300)
    known, *unseen = _keys(postgresql, 8)
    verifier.verify(known)
    with postgres.hanging(), timed() as watch:
        calls = [Call(_refused_s, verifier, key) for key in unseen for _ in range(3)]
        longest_s = max(call.ended() for call in calls)
        remembered = verifier.verify(known).account

    assert remembered == "acme"
    assert longest_s < watch.limit(1)
    assert watch.seconds < watch.limit(2)
    back = eventually(lambda: _accepted(verifier, unseen[0]), expected=True)
    assert back


def _accepted(verifier: KeyVerifier, key: bytes) -> bool:
    try:
        return verifier.verify(key).account == "acme"
    except KeyStoreUnavailable:
        return False


def test_locked_account(impatient: KeyStore) -> None:
    """A change waits no longer than the time-out for an account that another transaction has locked."""
    with impatient.unit_of_work("acme", now_ms=1) as work, timed() as watch:
        waiting = Call(KeyService(impatient).create, "acme", "n")
        # Busy, because the server would end an idle transaction.
        while waiting.is_alive():
            work.count_active_keys()

    assert type(waiting.ended()) is KeyStoreUnavailable
    assert 0.9 < watch.seconds < watch.limit(3)


def test_transaction_of_a_stopped_process(impatient: KeyStore) -> None:
    """A process that stops in the middle of a change does not lock the account forever."""
    with suppress(KeyStoreUnavailable), impatient.unit_of_work("acme", now_ms=1) as work:
        made = eventually(lambda: _created(impatient), expected=True)
        work.record("too late")

    service = KeyService(impatient)
    assert made is True
    assert service.list("acme").total == 1
    assert service.events("acme").items[0].action == "key.created"


def _created(store: KeyStore) -> bool:
    try:
        KeyService(store).create("acme", "n")
    except KeyStoreUnavailable:
        return False
    return True


def test_locked_file(path: Path, sqlite: KeyStore, verifier_of: Make) -> None:
    """Calls wait for a locked file within the time-out, cached keys work, and all keys work when it is unlocked."""
    verifier = verifier_of(sqlite)
    known, unseen = _keys(sqlite, 2)
    verifier.verify(known)
    verifier.write_uses()
    # Another open connection would prevent the lock.
    verifier._threads.poller.stop(1)
    sqlite.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with timed() as watch:
        refused_s = _refused_s(verifier, unseen)
    with pytest.raises(KeyStoreUnavailable, match="database is locked"):
        KeyService(sqlite).create("acme", "n")
    remembered = verifier.verify(known).account
    other.close()

    assert remembered == "acme"
    assert refused_s < watch.limit(1)
    assert verifier.verify(unseen).account == "acme"


def test_long_write(path: Path, sqlite: KeyStore, verifier_of: Make) -> None:
    """A long write by another process fails no request; last uses are written afterwards."""
    verifier = verifier_of(sqlite)
    (key,) = _keys(sqlite, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    accepted = verifier.verify(key).account
    with pytest.raises(KeyStoreUnavailable, match="locked"):
        verifier.write_uses()
    other.close()
    verifier.write_uses()

    assert accepted == "acme"
    assert KeyService(sqlite).list("acme").items[0].last_used_at is not None


def test_full_disk(sqlite: KeyStore, verifier_of: Make) -> None:
    """On a full disk no change is half written, and verification continues."""
    verifier = verifier_of(sqlite)
    keys = _keys(sqlite, 1)
    service = KeyService(sqlite)
    full = [True]

    @event.listens_for(sqlite._engines.writing, "begin")
    def shrink(connection: object) -> None:
        pages = 1 if full[0] else 1_000_000
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    made, said = 0, ""
    while not said:
        try:
            keys.append(service.create("acme", "n" * 64).secret.reveal().encode())
            made += 1
        except KeyStoreUnavailable as error:
            said = str(error)
    total = (service.list("acme").total, service.events("acme").total)
    accepted = {verifier.verify(key).account for key in keys}
    full[0] = False
    service.create("acme", "n")

    assert "database or disk is full" in said
    assert total == (made + 1, made + 2)
    assert accepted == {"acme"}


def test_read_only_file(path: Path, sqlite: KeyStore, verifier_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A read-only store that is up to date can be opened and verifies keys; changes raise an error."""
    (key,) = _keys(sqlite, 1)
    reader = KeyStore.open(f"sqlite:///file:{path}?mode=ro&uri=true")
    verifier = verifier_of(reader)
    accepted = verifier.verify(key).account
    with pytest.raises(KeyStoreUnavailable, match="attempt to write a readonly database"):
        KeyService(reader).create("acme", "n")
    logged = eventually(lambda: "readonly database; will retry" in caplog.text, expected=True)
    verifier.close()
    reader.close()

    assert accepted == "acme"
    assert logged is True


def test_overwritten_file(path: Path, sqlite: KeyStore, verifier_of: Make) -> None:
    """After the file is overwritten only cached keys are accepted, and the error says what to do."""
    verifier = verifier_of(sqlite)
    known, unseen = _keys(sqlite, 2)
    verifier.verify(known)
    # Truncating the index of the log would kill a process that has it mapped.
    verifier._threads.poller.stop(5)
    verifier._threads.writer.stop(5)
    sqlite.close()
    for file in path.parent.glob("keys.db*"):
        file.write_bytes(b"\x55" * 40_960)
    with pytest.raises(KeyStoreUnavailable) as caught:
        verifier.verify(unseen)
    with pytest.raises(KeyStoreUnusable, match="restore a backup, or open another file"):
        KeyStore.open(path)

    assert verifier.verify(known).account == "acme"
    assert "not a database" in str(caught.value)


def test_invalid_row(sqlite: KeyStore, verifier_of: Make) -> None:
    """Invalid overrides in the database affect only that account."""
    service = KeyService(sqlite)
    service.accounts.create("other")
    (mine,) = _keys(sqlite, 1)
    theirs = service.create("other", "n").secret.reveal().encode()
    with sqlite._engines.writing.begin() as connection:
        connection.exec_driver_sql("UPDATE awx_accounts SET overrides = '{broken' WHERE id = 'acme'")
    verifier = verifier_of(sqlite)

    with pytest.raises(KeyStoreUnavailable):
        verifier.verify(mine)
    assert verifier.verify(theirs).account == "other"
