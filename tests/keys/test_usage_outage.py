"""The usage history while its database is down, hangs or is locked: no request waits, and nothing is lost."""

import sqlite3
from pathlib import Path

import pytest
from tests.keys.store_probes import Call
from tests.keys.test_usage_history import Make, allowed, history_of, use
from tests.machine import timed
from tests.postgres_servers import Postgres

from awx_ratelimit import Limiter, MemoryBackend
from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.testing import ManualClock

__all__ = ["history_of"]


def test_stopped_database(postgres: Postgres, history_of: Make, clock: ManualClock) -> None:
    """While the database is down, requests are counted, and they are written when it is back."""
    store = KeyStore.open(postgres.emptied_store(), timeout_ms=1_000)
    service = KeyService(store, clock=clock)
    service.accounts.create("acme")
    key = service.create("acme", "n").key.id
    history = history_of(store)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    use(limiter, key, 100)
    postgres.stop()
    try:
        # A minute, in which the thread tries every five seconds.
        for _ in range(12):
            clock.advance(5_000)
            use(limiter, key, 10)
            with pytest.raises(KeyStoreUnavailable):
                history.write()
        with timed() as watch:
            limiter.flush()
    finally:
        postgres.start()
    history.write()

    assert watch.seconds < watch.limit(0.5)
    assert allowed(service) == 220
    store.close()


def test_hanging_database(postgres: Postgres, history_of: Make, clock: ManualClock) -> None:
    """While the database hangs, no request waits."""
    store = KeyStore.open(postgres.emptied_store(), timeout_ms=1_000)
    service = KeyService(store, clock=clock)
    service.accounts.create("acme")
    key = service.create("acme", "n").key.id
    history = history_of(store)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    use(limiter, key)
    history.write()
    with postgres.hanging():
        writing = Call(history.write)
        with timed() as watch:
            use(limiter, key, 1_000)
        with timed() as first:
            limiter.flush()
        with timed() as second:
            limiter.flush()
    writing.ended()
    history.write()

    assert watch.seconds < watch.limit(0.5)
    # It waits once, and not again while nothing was written.
    assert first.seconds < first.limit(3)
    assert second.seconds < second.limit(0.5)
    assert allowed(service) == 1_001
    store.close()


def test_locked_file(tmp_path: Path, history_of: Make, clock: ManualClock) -> None:
    """While another program writes to the file for long, requests are counted and written afterwards."""
    store = KeyStore.open(tmp_path / "keys.db", timeout_ms=100)
    service = KeyService(store, clock=clock)
    service.accounts.create("acme")
    key = service.create("acme", "n").key.id
    history = history_of(store)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    use(limiter, key, 70)
    other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(KeyStoreUnavailable, match="locked"):
            history.write()
    other.close()
    history.write()

    assert allowed(service) == 70
    store.close()
