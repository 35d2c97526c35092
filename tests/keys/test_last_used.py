"""When a key was last used: written soon, never set back, and never a reason for a request to fail or wait."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from threading import Barrier

import pytest
from sqlalchemy import event
from tests.keys.conftest import START_MS
from tests.keys.store_probes import Call
from tests.machine import eventually

from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.keys.storage.schema import KeyRecord
from awx_ratelimit.keys.storage.store import LastUse
from awx_ratelimit.keys.verification import cache as module
from awx_ratelimit.keys.verification.cache import KnownKey, LastUsedTracker
from awx_ratelimit.testing import ManualClock

_USED_AND_ENDED = """
import sys
from awx_ratelimit.keys import KeyStore, KeyVerifier
verifier = KeyVerifier(KeyStore.open(sys.argv[1]))
verifier._threads.writer._interval_s = 1000
verifier.write_uses()
assert verifier.verify(sys.argv[2].encode())
verifier.verify(sys.argv[2].encode())
"""


class StoreDouble:
    """A store that records the uses it gets, or fails."""

    def __init__(self) -> None:
        self.batches: list[list[LastUse]] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] = list

    def __call__(self, uses: Sequence[LastUse]) -> None:
        self.meanwhile()
        if self.error is not None:
            raise self.error
        self.batches.append(list(uses))


def cached_key(key_id: str) -> KnownKey:
    """A cached key."""
    return KnownKey(KeyRecord(key_id, "acme", key_id, None, None, None, False, False, False))


@pytest.fixture
def written() -> StoreDouble:
    return StoreDouble()


@pytest.fixture
def uses(written: StoreDouble) -> LastUsedTracker:
    return LastUsedTracker(written)


def _key(service: KeyService) -> tuple[str, bytes]:
    created = service.create("acme", "n")
    return created.key.id, created.secret.reveal().encode()


def _last_used_ms(service: KeyService, key_id: str) -> int:
    """The time of the key's last use; 0 if it was never used."""
    at = service.get("acme", key_id).last_used_at
    return 0 if at is None else round(at.timestamp() * 1000)


def test_first_use(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A new key's first use is written at once, to the millisecond."""
    key_id, key = _key(service)
    clock.advance(1_234)
    verifier.verify(key)

    assert eventually(lambda: _last_used_ms(service, key_id), START_MS + 1_234) == START_MS + 1_234


def test_later_uses(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """Later uses are written with the next batch, which has the last use of each key."""
    key_id, key = _key(service)
    verifier.verify(key)
    eventually(lambda: _last_used_ms(service, key_id), START_MS)
    for _ in range(3):
        clock.advance(1_000)
        verifier.verify(key)
    before = _last_used_ms(service, key_id)
    verifier.write_uses()

    assert before == START_MS
    assert _last_used_ms(service, key_id) == START_MS + 3_000


def test_refused_key(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A refused key does not count as used."""
    key_id, key = _key(service)
    service.accounts.suspend("acme")
    for _ in range(2):
        with pytest.raises(KeyRefused):
            verifier.verify(key)
    verifier.write_uses()

    assert _last_used_ms(service, key_id) == 0


def test_earlier_use(service: KeyService, store: KeyStore) -> None:
    """An earlier use that is written later changes nothing, in the same batch or in another."""
    key_id, _ = _key(service)
    store.mark_used([LastUse(key_id, "acme", 7), LastUse(key_id, "acme", 5)])
    store.mark_used([LastUse(key_id, "acme", 6)])

    assert _last_used_ms(service, key_id) == 7


def test_use_of_another_account(service: KeyService, store: KeyStore) -> None:
    """A use with another account's id changes no key."""
    key_id, _ = _key(service)
    store.mark_used([LastUse(key_id, "other", 7)])

    assert _last_used_ms(service, key_id) == 0


def test_order_and_size_of_batches(service: KeyService, store: KeyStore) -> None:
    """Rows are written in the order of their ids, 500 per transaction."""
    batches: list[list[str]] = []

    def note(_connection: object, _cursor: object, _statement: str, rows: Sequence[object], *_: object) -> None:
        # On SQLite a transaction begins with a separate statement, without rows.
        batches.extend([[str(row) for row in rows]] if rows else [])

    event.listen(store._engines.writing, "before_cursor_execute", note)
    store.mark_used([LastUse(f"key_{number:016}", "acme", 1) for number in reversed(range(1_100))])
    event.remove(store._engines.writing, "before_cursor_execute", note)

    ids = [row for batch in batches for row in batch]
    assert [len(batch) for batch in batches] == [500, 500, 100]
    assert ids == sorted(ids)


def test_two_writers(database: str, service: KeyService, store: KeyStore) -> None:
    """Two processes that write the same keys do not deadlock, and both batches are written."""
    keys = [_key(service)[0] for _ in range(40)]
    other = KeyStore.open(database)
    barrier = Barrier(2)

    def write(store: KeyStore, order: list[str], at_ms: int) -> None:
        for step in range(10):
            barrier.wait(10)
            store.mark_used([LastUse(key_id, "acme", at_ms + step) for key_id in order])

    calls = [Call(write, store, keys, 100), Call(write, other, keys[::-1], 200)]
    ended = [call.ended() for call in calls]
    other.close()

    assert ended == [None, None]
    assert {_last_used_ms(service, key_id) for key_id in keys} == {209}


def test_close(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """`close` writes all uses."""
    key_id, key = _key(service)
    verifier.verify(key)
    eventually(lambda: _last_used_ms(service, key_id), START_MS)
    clock.advance(5)
    verifier.verify(key)
    verifier.close()

    assert _last_used_ms(service, key_id) == START_MS + 5


def test_reopen(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A verifier that was closed and reopened verifies keys, and writes their uses when it is closed again."""
    key_id, key = _key(service)
    verifier.close()
    verifier.reopen()
    verifier.verify(key)
    eventually(lambda: _last_used_ms(service, key_id), START_MS)
    clock.advance(5)
    verifier.reopen()
    verifier.verify(key)
    verifier.close()

    assert _last_used_ms(service, key_id) == START_MS + 5


def test_exit(database: str, service: KeyService, store: KeyStore) -> None:
    """A process that exits without closing anything writes its last uses."""
    key_id, key = _key(service)
    # Not the first use, which would be written at once anyway.
    store.mark_used([LastUse(key_id, "acme", 1)])
    subprocess.run([sys.executable, "-c", _USED_AND_ENDED, database, key.decode()], check=True, timeout=30)

    assert _last_used_ms(service, key_id) > START_MS


@pytest.mark.parametrize("times", [(9, 5), (5, 9)])
def test_one_row_per_key(uses: LastUsedTracker, written: StoreDouble, times: tuple[int, int]) -> None:
    """A key that was used twice since the last batch is one row with the later time."""
    first, again, other = cached_key("b"), cached_key("b"), cached_key("a")
    uses.latest.update({first: times[0], other: 3, again: times[1]})
    uses.flush()
    uses.flush()

    assert written.batches == [[LastUse("a", "acme", 3), LastUse("b", "acme", 9)]]


def test_use_during_a_write(uses: LastUsedTracker, written: StoreDouble) -> None:
    """A use during the write of a batch is in the next batch."""
    key = cached_key("a")
    uses.latest[key] = 1
    written.meanwhile = lambda: uses.latest.update({key: 2})
    uses.flush()
    written.meanwhile = list
    uses.flush()

    assert written.batches == [[LastUse("a", "acme", 1)], [LastUse("a", "acme", 2)]]


def test_failed_write(uses: LastUsedTracker, written: StoreDouble) -> None:
    """A failed batch is written with the next one, and later uses replace earlier ones."""
    uses.latest.update({cached_key("a"): 1, cached_key("b"): 2})
    written.error = KeyStoreUnavailable("down")
    for _ in range(2):
        with pytest.raises(KeyStoreUnavailable):
            uses.flush()
    uses.latest[cached_key("a")] = 3
    kept = len(uses)
    written.error = None
    uses.flush()

    assert kept == 3
    assert written.batches == [[LastUse("a", "acme", 3), LastUse("b", "acme", 2)]]
    assert len(uses) == 0


def test_bound(uses: LastUsedTracker, written: StoreDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """While writes fail, only a bounded number of uses is kept, the latest ones."""
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 3)
    written.error = KeyStoreUnavailable("down")
    for number in range(10):
        uses.latest[cached_key(f"key_{number}")] = number
        with pytest.raises(KeyStoreUnavailable):
            uses.flush()
    written.error = None
    uses.flush()

    assert written.batches == [[LastUse(f"key_{number}", "acme", number) for number in (7, 8, 9)]]


def test_store_that_cannot_be_written(
    service: KeyService,
    store: KeyStore,
    verifier: KeyVerifier,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests still succeed and the log has one line; nothing is lost when writes succeed again."""
    key_id, key = _key(service)
    real, down = verifier._last_used._write, KeyStoreUnavailable("the disk is full")

    def fail(_: object) -> None:
        raise down

    monkeypatch.setattr(verifier._last_used, "_write", fail)
    verifier.verify(key)
    logged = eventually(lambda: caplog.text.count("the disk is full; will retry"), 1)
    for _ in range(3):
        verifier._threads.writer.wake()
        verifier.verify(key)
    monkeypatch.setattr(verifier._last_used, "_write", real)
    verifier._threads.writer.wake()

    assert logged == 1
    assert eventually(lambda: _last_used_ms(service, key_id), START_MS) == START_MS
    assert caplog.text.count("the disk is full") == 1
