"""When a key was used last: written soon, never backwards, and never in anybody's way."""

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
verifier._writer._interval_s = 1000
verifier.write_uses()
assert verifier.verify(sys.argv[2].encode())
verifier.verify(sys.argv[2].encode())
"""


class Written:
    """A store that keeps what it is given, or fails."""

    def __init__(self) -> None:
        self.batches: list[list[LastUse]] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] = list

    def __call__(self, uses: Sequence[LastUse]) -> None:
        self.meanwhile()
        if self.error is not None:
            raise self.error
        self.batches.append(list(uses))


def _known(key_id: str) -> KnownKey:
    """A key as it is remembered."""
    return KnownKey(KeyRecord(key_id, "acme", key_id, None, None, None, False, False, False))


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def uses(written: Written) -> LastUsedTracker:
    return LastUsedTracker(written)


def _key(service: KeyService) -> tuple[str, bytes]:
    created = service.create("acme", "n")
    return created.key.id, created.secret.reveal().encode()


def _last_used_ms(service: KeyService, key_id: str) -> int:
    """When the key was used last; 0 where it never was."""
    at = service.get("acme", key_id).last_used_at
    return 0 if at is None else round(at.timestamp() * 1000)


def test_the_first_use_is_written_at_once(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A new key's first use is seen without waiting for a batch, and to the millisecond."""
    key_id, key = _key(service)
    clock.advance(1_234)
    verifier.verify(key)

    assert eventually(lambda: _last_used_ms(service, key_id), START_MS + 1_234) == START_MS + 1_234


def test_later_uses_wait_for_a_batch(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """What is used again is written with the next batch: the last use of each key."""
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


def test_what_is_refused_is_no_use(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A key that is refused was not used."""
    key_id, key = _key(service)
    service.accounts.suspend("acme")
    for _ in range(2):
        with pytest.raises(KeyRefused):
            verifier.verify(key)
    verifier.write_uses()

    assert _last_used_ms(service, key_id) == 0


def test_a_use_is_never_set_back(service: KeyService, store: KeyStore) -> None:
    """An earlier use that is written later changes nothing, in one batch or in two."""
    key_id, _ = _key(service)
    store.mark_used([LastUse(key_id, "acme", 7), LastUse(key_id, "acme", 5)])
    store.mark_used([LastUse(key_id, "acme", 6)])

    assert _last_used_ms(service, key_id) == 7


def test_a_use_is_written_to_its_own_account(service: KeyService, store: KeyStore) -> None:
    """A use that names another account reaches no key."""
    key_id, _ = _key(service)
    store.mark_used([LastUse(key_id, "other", 7)])

    assert _last_used_ms(service, key_id) == 0


def test_uses_are_written_in_order_and_in_parts(service: KeyService, store: KeyStore) -> None:
    """Whatever order they come in, rows are written by id, 500 in one transaction."""
    batches: list[list[str]] = []

    def note(_connection: object, _cursor: object, _statement: str, rows: Sequence[object], *_: object) -> None:
        # On SQLite a transaction begins with a statement of its own, without rows.
        batches.extend([[str(row) for row in rows]] if rows else [])

    event.listen(store._engines.writing, "before_cursor_execute", note)
    store.mark_used([LastUse(f"key_{number:016}", "acme", 1) for number in reversed(range(1_100))])
    event.remove(store._engines.writing, "before_cursor_execute", note)

    ids = [row for batch in batches for row in batch]
    assert [len(batch) for batch in batches] == [500, 500, 100]
    assert ids == sorted(ids)


def test_two_that_write_the_same_keys_do_not_block_each_other(
    database: str, service: KeyService, store: KeyStore
) -> None:
    """Two processes' batches of the same keys wait for one another, and are both written."""
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


def test_the_last_uses_are_written_when_it_closes(
    service: KeyService, verifier: KeyVerifier, clock: ManualClock
) -> None:
    """A verifier that is closed has written everything."""
    key_id, key = _key(service)
    verifier.verify(key)
    eventually(lambda: _last_used_ms(service, key_id), START_MS)
    clock.advance(5)
    verifier.verify(key)
    verifier.close()

    assert _last_used_ms(service, key_id) == START_MS + 5


def test_the_last_uses_are_written_when_the_interpreter_ends(
    database: str, service: KeyService, store: KeyStore
) -> None:
    """A process that just ends, without closing anything, has written its last uses."""
    key_id, key = _key(service)
    # Not its first use, which would be written at once anyway.
    store.mark_used([LastUse(key_id, "acme", 1)])
    subprocess.run([sys.executable, "-c", _USED_AND_ENDED, database, key.decode()], check=True, timeout=30)

    assert _last_used_ms(service, key_id) > START_MS


@pytest.mark.parametrize("times", [(9, 5), (5, 9)])
def test_each_key_is_written_once_with_its_latest_use(
    uses: LastUsedTracker, written: Written, times: tuple[int, int]
) -> None:
    """A key that was looked up twice since the last batch is one row, with the later time."""
    first, again, other = _known("b"), _known("b"), _known("a")
    uses.latest.update({first: times[0], other: 3, again: times[1]})
    uses.flush()
    uses.flush()

    assert written.batches == [[LastUse("a", "acme", 3), LastUse("b", "acme", 9)]]


def test_a_use_during_a_write_is_not_lost(uses: LastUsedTracker, written: Written) -> None:
    """What is used while a batch is being written is in the next one."""
    key = _known("a")
    uses.latest[key] = 1
    written.meanwhile = lambda: uses.latest.update({key: 2})
    uses.flush()
    written.meanwhile = list
    uses.flush()

    assert written.batches == [[LastUse("a", "acme", 1)], [LastUse("a", "acme", 2)]]


def test_what_cannot_be_written_is_kept(uses: LastUsedTracker, written: Written) -> None:
    """A batch that fails is written with the next, and a later use of the same key goes before an earlier one."""
    uses.latest.update({_known("a"): 1, _known("b"): 2})
    written.error = KeyStoreUnavailable("down")
    for _ in range(2):
        with pytest.raises(KeyStoreUnavailable):
            uses.flush()
    uses.latest[_known("a")] = 3
    kept = len(uses)
    written.error = None
    uses.flush()

    assert kept == 3
    assert written.batches == [[LastUse("a", "acme", 3), LastUse("b", "acme", 2)]]
    assert len(uses) == 0


def test_what_is_kept_is_bounded(uses: LastUsedTracker, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be written, the latest uses are kept, and no more than so many."""
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 3)
    written.error = KeyStoreUnavailable("down")
    for number in range(10):
        uses.latest[_known(f"key_{number}")] = number
        with pytest.raises(KeyStoreUnavailable):
            uses.flush()
    written.error = None
    uses.flush()

    assert written.batches == [[LastUse(f"key_{number}", "acme", number) for number in (7, 8, 9)]]


def test_a_store_that_cannot_be_written_fails_no_request(
    service: KeyService,
    store: KeyStore,
    verifier: KeyVerifier,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests go on, and one line in the log says that uses are not written; when they are again, nothing is lost."""
    key_id, key = _key(service)
    real, down = verifier._last_used._write, KeyStoreUnavailable("the disk is full")

    def fail(_: object) -> None:
        raise down

    monkeypatch.setattr(verifier._last_used, "_write", fail)
    verifier.verify(key)
    logged = eventually(lambda: caplog.text.count("the disk is full; will retry"), 1)
    for _ in range(3):
        verifier._writer.wake()
        verifier.verify(key)
    monkeypatch.setattr(verifier._last_used, "_write", real)
    verifier._writer.wake()

    assert logged == 1
    assert eventually(lambda: _last_used_ms(service, key_id), START_MS) == START_MS
    assert caplog.text.count("the disk is full") == 1
