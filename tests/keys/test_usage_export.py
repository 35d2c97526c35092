"""The export for billing: an exported hour never changes, and all exports together are what was used."""

import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from tests.keys.conftest import START_MS
from tests.keys.store_probes import Call

from awx_ratelimit import Limiter, MemoryBackend, Plan
from awx_ratelimit.errors import KeyRequestRefused
from awx_ratelimit.keys import KeyService, KeyStore, UsageExport, UsageHistory
from awx_ratelimit.keys import usage_export as exporting
from awx_ratelimit.keys.storage import usage as statements
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.testing import ManualClock

START = datetime(2025, 6, 1, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
UsageEvent = Mapping[str, Any]


class _Usage:
    """Writes what keys have used, as a process does."""

    def __init__(self, store: KeyStore, process: str = "a process") -> None:
        self._store = store
        self._process = process
        self._sequence = 0

    def write(self, key: str, hour: int, **costs: int) -> None:
        """Write what a key has used in an hour, counted from `START`."""
        self._sequence += 1
        at_ms = START_MS + hour * HOUR_MS
        used = HourUsage(key, at_ms, 1, 0, 1, at_ms, costs, {})
        self._store.write(statements.add, self._process, self._sequence, at_ms, [used])


@pytest.fixture
def export(store: KeyStore, clock: ManualClock) -> UsageExport:
    return UsageExport(store, clock=clock)


@pytest.fixture
def usage(store: KeyStore) -> _Usage:
    return _Usage(store)


@pytest.fixture
def key(service: KeyService) -> str:
    """The id of a key of acme."""
    return service.create("acme", "n").key.id


def amounts(events: Iterable[UsageEvent]) -> list[tuple[int, str, int]]:
    """The hour of each event, counted from `START`, its measure and its value."""
    return [
        ((datetime.fromisoformat(event["time"]) - START) // HOUR, event["data"]["measure"], event["data"]["value"])
        for event in events
    ]


def test_event(store: KeyStore, service: KeyService, key: str, clock: ManualClock) -> None:
    """There is a CloudEvent for each hour, key and measure, and a rotated key keeps its id."""
    history = UsageHistory(store, clock=clock, flush_seconds=3_600)
    limiter = Limiter(MemoryBackend(clock=clock), listeners=[history])
    for _ in range(3):
        limiter.acquire(key, Plan.of("wide", per_minute=10), {"requests": 1, "tokens": 50})
    history.close()
    service.rotate("acme", key)
    clock.advance(2 * HOUR_MS)
    hours = UsageExport(store, source="https://api.example.com", type="com.example.usage", clock=clock).since(START)
    events = list(hours)

    assert amounts(events) == [(0, "requests", 3), (0, "tokens", 150)]
    assert events[1] == {
        "specversion": "1.0",
        "id": f"{key}.tokens.2025-06-01T10:00:00Z",
        "source": "https://api.example.com",
        "type": "com.example.usage",
        "subject": "acme",
        "time": "2025-06-01T10:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "key_id": key,
            "measure": "tokens",
            "value": 150,
            "begins_at": "2025-06-01T10:00:00Z",
            "ends_at": "2025-06-01T11:00:00Z",
        },
    }
    # The reader of CloudEvents' own library checks every attribute.
    assert JSONFormat().read(None, json.dumps(events[1])).get_time() == START


def test_open_hours(export: UsageExport, usage: _Usage, key: str, clock: ManualClock) -> None:
    """An hour is exported when the grace period after its end is over, and the next export continues there."""
    for hour in (0, 1):
        usage.write(key, hour, requests=1)
    clock.advance(2 * HOUR_MS - 1)
    early = export.since(START)
    clock.advance(1)
    first = export.since(early.ends_at)
    clock.advance(HOUR_MS)
    second = export.since(first.ends_at)

    assert (list(early), early.ends_at) == ([], START)
    assert (amounts(first), first.ends_at) == ([(0, "requests", 1)], START + HOUR)
    assert (amounts(second), second.ends_at) == ([(1, "requests", 1)], START + 2 * HOUR)


def test_late_amounts(export: UsageExport, usage: _Usage, service: KeyService, key: str, clock: ManualClock) -> None:
    """What comes after its hour was exported is exported with the first open hour; its day and its requests stay."""
    usage.write(key, 0, requests=1)
    clock.advance(3 * HOUR_MS)
    before = list(export.since(START))
    usage.write(key, 0, requests=1, tokens=7)
    clock.advance(HOUR_MS)
    after = export.since(START)
    hours = service.usage.history("acme", from_=START, to=START + 3 * HOUR, by="hour").items
    (day,) = service.usage.history("acme", from_=START, to=START + HOUR).items

    assert amounts(before) == [(0, "requests", 1)]
    assert amounts(after) == [(0, "requests", 1), (2, "requests", 1), (2, "tokens", 7)]
    assert [(hour.allowed, dict(hour.costs)) for hour in hours] == [
        (2, {"requests": 1}), (0, {}), (0, {"requests": 1, "tokens": 7}),
    ]  # fmt: skip
    assert (day.allowed, day.costs) == (2, {"requests": 2, "tokens": 7})


def test_late_corrections(export: UsageExport, usage: _Usage, key: str, clock: ManualClock) -> None:
    """No event is below 0: a correction of an exported hour lowers the next ones, until it is used up."""
    usage.write(key, 0, tokens=100)
    clock.advance(2 * HOUR_MS)
    list(export.since(START))
    usage.write(key, 0, tokens=-60)
    usage.write(key, 1, tokens=25)
    clock.advance(HOUR_MS)
    second = amounts(export.since(START))
    usage.write(key, 2, tokens=50)
    usage.write(key, 3, tokens=1)
    clock.advance(2 * HOUR_MS)
    last = amounts(export.since(START))

    assert second == [(0, "tokens", 100)]
    assert last == [(0, "tokens", 100), (2, "tokens", 15), (3, "tokens", 1)]


def test_corrections_of_sealed_hours(export: UsageExport, usage: _Usage, key: str, clock: ManualClock) -> None:
    """If several hours are sealed at once, a correction lowers the first of them that have any cost."""
    for hour, tokens in enumerate((-60, 25, 0, 50, 7)):
        usage.write(key, hour, tokens=tokens)
    clock.advance(6 * HOUR_MS)

    assert amounts(export.since(START)) == [(3, "tokens", 15), (4, "tokens", 7)]


def test_pages(
    export: UsageExport, usage: _Usage, service: KeyService, key: str, clock: ManualClock, monkeypatch: Any
) -> None:
    """The events come in pages, in a fixed order, of all accounts or of one."""
    service.accounts.create("other")
    others = [service.create("other", "n").key.id for _ in range(3)]
    for hour in range(3):
        for one in (key, *others):
            usage.write(one, hour, requests=1, tokens=2)
    usage.write(key, 3)
    clock.advance(9 * HOUR_MS)
    whole = list(export.since(START))
    monkeypatch.setattr(exporting, "_PAGE", 5)
    paged = list(export.since(START))
    of_other = list(export.since(START + HOUR, account_id="other"))

    assert len(whole) == 24
    assert len({event["id"] for event in whole}) == 24
    assert [event["time"] for event in whole] == sorted(event["time"] for event in whole)
    assert paged == whole
    assert of_other == [event for event in whole[8:] if event["subject"] == "other"]


def test_writers_during_exports(
    store: KeyStore, other_store: KeyStore, service: KeyService, clock: ManualClock
) -> None:
    """While two processes write and hours are exported, all exports agree, and add up to what was used."""
    keys = [service.create("acme", "n").key.id for _ in range(5)]
    exported: dict[str, int] = {}
    changed: list[UsageEvent] = []
    written: list[list[int]] = [[], []]
    all_exported = Event()

    def work(store: KeyStore, number: int) -> None:
        choose, usage = random.Random(number), _Usage(store, f"process {number}")
        # It pauses, because SQLite's lock is not fair.
        while not all_exported.wait(0.002):
            # Some are late, some are early, and some take back more than they have cost.
            amount = choose.choice([3, 5, 9, -4])
            hour = choose.randrange(-2, 3) + (clock.now_ms() - START_MS) // HOUR_MS
            usage.write(choose.choice(keys), hour, t=amount)
            written[number].append(amount)

    def export() -> None:
        clock.advance(HOUR_MS // 2)
        for event in UsageExport(store, clock=clock, grace_seconds=0).since(START - 3 * HOUR):
            value = event["data"]["value"]
            if value <= 0 or exported.setdefault(event["id"], value) != value:
                changed.append(event)

    calls = [Call(work, store, 0), Call(work, other_store, 1)]
    exports = 0
    while exports < 20 or (min(map(len, written)) < 50 and exports < 1_000):
        export()
        exports += 1
    all_exported.set()
    ended = [call.ended() for call in calls]
    clock.advance(9 * HOUR_MS)
    export()
    # Each key is used once more, which covers the corrections that are left.
    for key in keys:
        _Usage(store, f"last of {key}").write(key, (clock.now_ms() - START_MS) // HOUR_MS, t=10_000)
    clock.advance(HOUR_MS)
    export()

    assert ended == [None, None]
    assert min(map(len, written)) >= 50
    assert changed == []
    assert sum(exported.values()) == sum(map(sum, written)) + 10_000 * len(keys)


def test_removed_hours(
    store: KeyStore, export: UsageExport, usage: _Usage, key: str, clock: ManualClock, monkeypatch: Any
) -> None:
    """Hours that are removed, before an export or during one, are an error and not a gap."""
    monkeypatch.setattr(exporting, "_PAGE", 1)
    for hour in range(3):
        usage.write(key, hour, requests=1)
    clock.advance(DAY_MS)
    events = iter(export.since(START))
    next(events)
    clock.advance(36 * DAY_MS)
    store.write(statements.remove_some, clock.now_ms(), 400)
    expected = "since: hours before 2025-06-03T00:00:00Z are no longer stored; expected 2025-06-03T00:00:00Z or later"
    for read in (lambda: list(events), lambda: export.since(START)):
        with pytest.raises(KeyRequestRefused) as caught:
            read()
        assert str(caught.value) == expected

    assert list(export.since(START + 2 * DAY)) == []


@pytest.mark.parametrize(
    ("options", "arguments", "expected"),
    [
        ({"source": "our api"}, {}, "source: not valid; expected a URI such as https://api.example.com"),
        ({"type": 5}, {}, "type: expected a name such as awx.usage, got an int"),
        ({"grace_seconds": -1}, {}, "grace_seconds: expected an integer from 0 to 604800, got -1 (int)"),
        ({}, {"at": START + DAY}, "since: in the future; expected a time that has passed"),
        ({}, {"at": datetime(2025, 6, 1)}, "since: expected a time from 1970 to 2999 with a time zone, got a datetime"),  # noqa: DTZ001
        (
            {},
            {"at": START, "account_id": "acne"},
            "account_id: there is no such account; "
            "create it first, with KeyService.accounts.ensure(account_id, plan=...)",
        ),
    ],
)
def test_errors(
    tmp_path: Path, clock: ManualClock, options: dict[str, Any], arguments: dict[str, Any], expected: str
) -> None:
    """A mistake is an error that says what is expected."""
    store = KeyStore.open(tmp_path / "keys.db")
    with pytest.raises(KeyRequestRefused) as caught:
        UsageExport(store, clock=clock, **options).since(**{"at": START, **arguments})

    store.close()
    assert str(caught.value) == expected


def test_wrong_clock(export: UsageExport, usage: _Usage, key: str, clock: ManualClock) -> None:
    """A clock that goes back opens no hour again."""
    usage.write(key, 0, requests=1)
    clock.advance(5 * HOUR_MS)
    list(export.since(START))
    clock.advance(-4 * HOUR_MS)
    usage.write(key, 1, requests=1)
    hours = export.since(START)

    assert hours.ends_at == START + 4 * HOUR
    assert amounts(hours) == [(0, "requests", 1)]
