"""The usage history in the key store: nothing is counted twice, and no more than one interval is ever lost."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from tests.keys.conftest import START_MS
from tests.keys.store_probes import Call
from tests.machine import eventually, timed

from awx_ratelimit import AsyncLimiter, Budget, Limiter, MemoryBackend, Plan
from awx_ratelimit.errors import InvalidLimit, KeyStoreUnavailable
from awx_ratelimit.keys import KeyService, KeyStore, UsageHistory
from awx_ratelimit.keys.storage import migrations as versions
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.keys.usage_range import By
from awx_ratelimit.keys.usage_reports import UsagePeriod
from awx_ratelimit.observability import usage_history as counting
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.testing import ManualClock

START = datetime(2025, 6, 1, 10, tzinfo=UTC)
MIDNIGHT = START - timedelta(hours=10)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WIDE = Plan.of("wide", per_minute=10**6, concurrent=10**6)
NARROW = Plan.of("narrow", per_minute=2)
Make = Callable[..., UsageHistory]
#: Counts 100 requests of each key and writes them, again and again, and prints a line after each time.
_COUNTS_AND_WRITES = """
import sys
from awx_ratelimit import Limiter, MemoryBackend, Plan
from awx_ratelimit.keys import KeyStore, UsageHistory
plan = Plan.of("wide", per_minute=10**6)
history = UsageHistory(KeyStore.open(sys.argv[1]), flush_seconds=3600)
limiter = Limiter(MemoryBackend(), listeners=[history])
for _ in range(int(sys.argv[2])):
    for key in sys.argv[4:]:
        for _ in range(100):
            limiter.acquire(key, plan)
    if sys.argv[3] == "write":
        history.write()
    print("written", flush=True)
"""


@pytest.fixture
def history_of(clock: ManualClock) -> Iterator[Make]:
    """A function that makes histories of a store, whose thread writes only when it is told to."""
    made: list[UsageHistory] = []

    def make(store: KeyStore, **options: Any) -> UsageHistory:
        made.append(UsageHistory(store, **{"flush_seconds": 3_600, "clock": clock, **options}))
        return made[-1]

    yield make
    for each in made:
        each._writer.stop(5, last=lambda: None)


@pytest.fixture
def history(store: KeyStore, history_of: Make) -> UsageHistory:
    return history_of(store)


@pytest.fixture
def limiter(history: UsageHistory, clock: ManualClock) -> Limiter:
    return Limiter(MemoryBackend(clock=clock), listeners=[history])


@pytest.fixture
def key(service: KeyService) -> str:
    """The id of a key of acme."""
    return service.create("acme", "n").key.id


def use(limiter: Limiter, key: str, number: int = 1) -> None:
    """Make requests that end at once."""
    for _ in range(number):
        limiter.release(limiter.acquire(key, WIDE))


def today(service: KeyService, key: str | None = None, by: By = "day") -> tuple[UsagePeriod, ...]:
    """What acme or one of its keys has used today."""
    end = MIDNIGHT + timedelta(days=1)
    return service.usage.history("acme", key_id=key, from_=MIDNIGHT, to=end, by=by).items


def allowed(service: KeyService, key: str | None = None) -> int:
    """How many requests are stored, by hour and by day alike."""
    found: set[int] = set()

    def agree() -> bool:
        found.clear()
        periods: tuple[By, ...] = ("hour", "day")
        found.update(sum(period.allowed for period in today(service, key, by)) for by in periods)
        return len(found) == 1

    # A batch may be written between the two look-ups.
    assert eventually(agree, expected=True), found
    return found.pop()


def test_recorded(history: UsageHistory, limiter: Limiter, service: KeyService, key: str, clock: ManualClock) -> None:
    """Requests, costs, refusals, the peak and the last use are stored by hour and by day, and added up."""
    also = [Budget("acme", NARROW, scope="account")]
    for _ in range(2):
        held = [limiter.acquire(key, WIDE, {"requests": 1, "tokens": 50}) for _ in range(3)]
        for decision in held:
            limiter.release(decision)
        history.write()
    clock.advance(HOUR_MS + 5)
    for _ in range(3):
        limiter.release(limiter.acquire(key, WIDE, also=also))
    history.write()
    hours = today(service, by="hour")
    (day,) = today(service, key)

    assert [one.allowed for one in hours] == [0] * 10 + [6, 2]
    assert hours[10].costs == {"requests": 6, "tokens": 300}
    assert hours[10].peak_concurrent == 3
    assert (hours[11].refused, hours[11].refusals) == (1, {"account.minute": 1})
    assert hours[9].last_used_at is None
    assert (day.begins_at, day.allowed, day.refused) == (MIDNIGHT, 8, 1)
    assert day.costs == {"requests": 8, "tokens": 300}
    assert day.last_used_at == START + timedelta(hours=1, milliseconds=5)


def test_lost_answer(
    store: KeyStore, history: UsageHistory, limiter: Limiter, service: KeyService, key: str, monkeypatch: Any
) -> None:
    """A batch whose commit succeeded is not written again, although the answer was lost."""
    use(limiter, key, 100)
    write = store.write

    def lose(*args: Any) -> None:
        write(*args)
        raise KeyStoreUnavailable("the connection was lost")

    monkeypatch.setattr(store, "write", lose)
    for _ in range(3):
        use(limiter, key, 10)
        with pytest.raises(KeyStoreUnavailable):
            history.write()
    monkeypatch.undo()
    history.write()

    assert allowed(service) == 130


def test_failed_write(
    store: KeyStore, history: UsageHistory, limiter: Limiter, service: KeyService, key: str, monkeypatch: Any
) -> None:
    """What cannot be written is kept, added up and written later, in any number of attempts."""

    def fail(*_: Any) -> None:
        raise KeyStoreUnavailable("down")

    monkeypatch.setattr(store, "write", fail)
    for _ in range(20):
        use(limiter, key, 10)
        with pytest.raises(KeyStoreUnavailable):
            history.write()
    health = history.health()
    monkeypatch.undo()
    history.write()

    assert health == {"unwritten": 2, "dropped": 0, "failing": True}
    assert allowed(service) == 200
    assert history.health() == {"unwritten": 0, "dropped": 0, "failing": False}


def test_error_in_the_transaction(
    store: KeyStore, history: UsageHistory, limiter: Limiter, service: KeyService, key: str
) -> None:
    """A transaction that fails in the middle writes nothing, so that its batch can be written again."""
    use(limiter, key, 100)

    @event.listens_for(store._engines.writing, "before_cursor_execute")
    def fail_once(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "INTO awx_usage_costs" in statement and not failed:
            failed.append(statement)
            cursor.execute("SELECT nothing FROM nowhere")

    failed: list[str] = []
    with pytest.raises(KeyStoreUnavailable):
        history.write()
    between = allowed(service)
    history.write()

    assert len(failed) == 1
    assert between == 0
    assert allowed(service) == 100


def test_two_processes(
    store: KeyStore, other_store: KeyStore, service: KeyService, history_of: Make, clock: ManualClock
) -> None:
    """Two processes that write the same keys at the same time neither deadlock nor lose or double anything."""
    keys = [service.create("acme", "n").key.id for _ in range(30)]

    def work(store: KeyStore, keys: list[str]) -> None:
        history = history_of(store)
        limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
        for _ in range(20):
            for key in keys:
                limiter.release(limiter.acquire(key, WIDE, 2))
            history.write()

    calls = [Call(work, store, keys), Call(work, other_store, keys[::-1])]
    ended = [call.ended() for call in calls]
    (day,) = today(service)

    assert ended == [None, None]
    assert day.allowed == 2 * 20 * 30
    assert day.costs == {"requests": 2 * day.allowed}


def _allowed_now(store: KeyStore) -> int:
    return sum(day.allowed for day in KeyService(store).usage.history("acme").items)


def test_killed(database: str, store: KeyStore, service: KeyService) -> None:
    """After SIGKILL at most what was not written is missing, and nothing is there twice; so it is after a restart."""
    keys = [service.create("acme", "n").key.id for _ in range(3)]
    rounds = 0
    for _ in range(2):
        command = [sys.executable, "-c", _COUNTS_AND_WRITES, database, "100000", "write", *keys]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(5):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rounds += 5 + len(process.stdout.readlines())
            process.wait(10)
    stored = _allowed_now(store)

    # The last round of each process may be written and not announced.
    assert stored in {rounds * 300, (rounds + 1) * 300, (rounds + 2) * 300}


def test_exit(database: str, store: KeyStore, key: str) -> None:
    """A process that exits normally writes everything."""
    command = [sys.executable, "-c", _COUNTS_AND_WRITES, database, "3", "", key]
    subprocess.run(command, check=True, timeout=30, stdout=subprocess.DEVNULL)

    assert _allowed_now(store) == 300


def test_fork(store: KeyStore, history: UsageHistory, limiter: Limiter, service: KeyService, key: str) -> None:
    """A child process writes what it has counted itself, and the parent what the parent has counted."""
    use(limiter, key, 100)
    pid = os.fork()
    if not pid:
        try:
            use(limiter, key, 10)
            history.write()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    after_child = allowed(service)
    history.write()

    assert after_child == 10
    assert allowed(service) == 110


def test_thread(store: KeyStore, history_of: Make, service: KeyService, key: str, clock: ManualClock) -> None:
    """A thread writes by itself, from the first request on."""
    history = history_of(store, flush_seconds=0.01)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    limiter.acquire(key, WIDE)
    limiter.flush()

    assert allowed(service) == 1


def test_async_flush(history: UsageHistory, service: KeyService, key: str, clock: ManualClock) -> None:
    """`AsyncLimiter.flush` writes too, as the end of a lifespan calls it, without blocking the event loop."""

    async def work() -> None:
        limiter = AsyncLimiter(MemoryBackend(clock=clock), listeners=[history])
        await limiter.acquire(key, WIDE)
        await limiter.flush()

    asyncio.run(work())

    assert allowed(service) == 1


def test_closed(history: UsageHistory, limiter: Limiter, service: KeyService, key: str) -> None:
    """`close` writes everything; later calls do nothing, and do not wait."""
    use(limiter, key, 5)
    history.close()
    with timed() as watch:
        history.close()
        limiter.flush()

    assert allowed(service) == 5
    assert watch.seconds < watch.limit(0.5)


def test_reopened(store: KeyStore, history_of: Make, service: KeyService, key: str, clock: ManualClock) -> None:
    """A history that was closed and reopened writes by itself; while it is open, `reopen` changes nothing."""
    history = history_of(store, flush_seconds=0.01)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    limiter.acquire(key, WIDE)
    history.close()
    for _ in range(2):
        history.reopen()
        limiter.acquire(key, WIDE)
        limiter.flush()

    assert allowed(service) == 3


def test_unknown_keys(history: UsageHistory, limiter: Limiter, service: KeyService, key: str, store: KeyStore) -> None:
    """A subject that looks like a stored key and is none leaves no row."""
    use(limiter, key)
    for number in range(600):
        use(limiter, f"key_{number:016d}")
    history.write()
    with store._engines.reading.connect() as connection:
        families = {row.family_id for row in connection.exec_driver_sql("SELECT family_id FROM awx_usage")}

    assert families == {key}


def test_rotated_and_revoked(history: UsageHistory, limiter: Limiter, service: KeyService, key: str) -> None:
    """A key and its successor share their history, which stays when they are revoked."""
    use(limiter, key, 2)
    successor = service.rotate("acme", key).key
    # An app of its own may take the id of a key for its subject.
    use(limiter, successor.family_id, 2)
    use(limiter, successor.id)
    service.revoke("acme", key)
    service.revoke("acme", successor.id)
    history.write()

    assert [allowed(service, one) for one in (key, successor.id, None)] == [5, 5, 5]


def _rows(store: KeyStore, period: str) -> int:
    total = 0
    with store._engines.reading.connect() as connection:
        for table in ("awx_usage", "awx_usage_costs", "awx_usage_refusals"):
            query = f"SELECT count(*) FROM {table} WHERE period = '{period}'"
            total += connection.exec_driver_sql(query).scalar_one()
    return total


def test_retention(
    store: KeyStore, history_of: Make, service: KeyService, key: str, clock: ManualClock, monkeypatch: Any
) -> None:
    """Hours are removed after 35 days and days after `keep_days`, in small steps and without a call."""
    monkeypatch.setattr(statements, "_REMOVED_AT_ONCE", 3)
    history = history_of(store, keep_days=400)
    used = [
        HourUsage(key, START_MS + number * HOUR_MS, 1, 1, 1, START_MS, {"requests": 1}, {"minute": 1})
        for number in range(20)
    ]
    store.write(statements.add, "another", 1, START_MS, used)
    history.write()
    before = [_rows(store, "hour"), _rows(store, "day")]
    clock.advance(37 * DAY_MS)
    history.write()
    after_hours = [_rows(store, "hour"), _rows(store, "day")]
    clock.advance(365 * DAY_MS)
    history.write()

    assert before == [60, 6]
    assert after_hours == [0, 6]
    assert [_rows(store, "hour"), _rows(store, "day")] == [0, 0]


def test_one_remover(store: KeyStore, other_store: KeyStore) -> None:
    """Of all processes, one removes old rows, once in an hour; a wrong clock of the past does not prevent it."""
    turns = [
        one.write(statements.take_turn, at_ms, HOUR_MS)
        for one, at_ms in (
            (store, START_MS),
            (other_store, START_MS),
            (store, START_MS + HOUR_MS - 1),
            (other_store, START_MS + HOUR_MS),
            (store, START_MS + 99 * HOUR_MS),
            (other_store, START_MS),
        )
    ]

    assert turns == [True, False, False, True, True, True]


def test_huge_amounts(store: KeyStore, service: KeyService, key: str) -> None:
    """Amounts beyond all sense fail no write."""
    for number in range(1, 4):
        huge = HourUsage(key, START_MS, 1, 0, 0, START_MS, {"tokens": 2**60}, {})
        store.write(statements.add, "another", number, START_MS, [huge])
    (day,) = today(service)

    assert day.allowed == 3
    assert day.costs["tokens"] >= 2**53


def test_correction_alone(store: KeyStore, service: KeyService, key: str) -> None:
    """A correction of an hour that is no longer stored shows as 0, not as less."""
    late = HourUsage(key, START_MS, 0, 0, 0, 0, {"tokens": -50}, {})
    store.write(statements.add, "another", 1, START_MS, [late])
    (day,) = today(service)

    assert (day.costs, day.last_used_at) == ({"tokens": 0}, None)


@pytest.mark.parametrize("version", range(1, len(versions.MIGRATIONS)))
def test_older_store(empty_database: str, monkeypatch: pytest.MonkeyPatch, clock: ManualClock, version: int) -> None:
    """A store that an older release has made is migrated when it is opened, and keeps its keys and its usage."""
    for module in ("awx_ratelimit.keys.storage.migrations", "awx_ratelimit.keys.storage.store"):
        monkeypatch.setattr(f"{module}.MIGRATIONS", versions.MIGRATIONS[:version])
    old = KeyStore.open(empty_database)
    key = "key_0123456789abcdef"
    usage = "awx_usage (account_id, period, family_id, begins_ms, allowed, refused, peak, last_at_ms)"
    for row in (
        "awx_accounts (id, status, max_keys, created_at_ms) VALUES ('acme', 'active', 100, 0)",
        "awx_api_keys (id, account_id, family_id, name, prefix, last4, key_hash, created_at_ms)"
        f" VALUES ('{key}', 'acme', '{key}', 'n', 'awx_', 'abcd', '0', 0)",
        f"{usage} VALUES ('acme', 'day', '{key}', {START_MS // DAY_MS * DAY_MS}, 2, 0, 0, 0)",
        f"{usage} VALUES ('acme', 'hour', '{key}', {START_MS // HOUR_MS * HOUR_MS}, 2, 0, 0, 0)",
    )[: 4 if version > 1 else 2]:
        old.write(Connection.execute, text(f"INSERT INTO {row}"))
    old.close()
    monkeypatch.undo()
    store = KeyStore.open(empty_database)
    service = KeyService(store, clock=clock)
    used = HourUsage(key, START_MS, 7, 0, 0, START_MS, {}, {})
    store.write(statements.add, "another", 1, START_MS, [used])

    assert allowed(service, key) == (7 if version == 1 else 9)
    assert service.accounts.get("acme").temporary is None
    store.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"keep_days": 0}, "keep_days: expected an integer from 1 to 3650, got 0"),
        ({"keep_days": "400"}, "keep_days: expected an integer from 1 to 3650, got '400'"),
        ({"flush_seconds": 0}, "flush_seconds: expected a number above 0, up to 3600, got 0"),
        ({"flush_seconds": True}, "flush_seconds: expected a number above 0, up to 3600, got True"),
        ({"flush_seconds": float("nan")}, "flush_seconds: expected a number above 0, up to 3600, got nan"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    """A wrong number is an error that says what is expected."""
    store = KeyStore.open(tmp_path / "keys.db")
    with pytest.raises(InvalidLimit) as caught:
        UsageHistory(store, **options)
    store.close()

    assert str(caught.value) == expected


def test_no_store() -> None:
    """A path is no store, and the error says what to write."""
    with pytest.raises(TypeError, match=r"write UsageHistory\(KeyStore.open\('keys.db'\)\)"):
        UsageHistory("keys.db")  # type: ignore[arg-type]


def test_many_keys(
    store: KeyStore, history: UsageHistory, clock: ManualClock, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many keys, the thread is woken before its time; not while the database does not answer."""
    monkeypatch.setattr(counting, "MANY_SUBJECTS", 100)
    woken: list[bool] = []
    monkeypatch.setattr(history._writer, "wake", lambda: woken.append(history._writer.is_failing))
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    for number in range(150):
        use(limiter, f"key_{number:016d}")
    before = len(woken)

    def fail(*_: Any) -> None:
        raise KeyStoreUnavailable("down")

    monkeypatch.setattr(store, "write", fail)
    with pytest.raises(KeyStoreUnavailable):
        history.write()
    for number in range(1_000):
        use(limiter, f"key_{number:016d}")

    assert before > 0
    assert len(woken) == before


def test_no_thread(
    store: KeyStore, service: KeyService, key: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the process cannot start a thread, requests go on, and the thread is started when it can."""
    history = UsageHistory(store, flush_seconds=0.01, clock=clock)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        use(limiter, key, 3)
    use(limiter, key, 200)
    stored = eventually(lambda: allowed(service), 203)
    history.close()

    assert stored == 203
