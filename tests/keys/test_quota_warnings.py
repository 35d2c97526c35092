"""Warnings about quotas: once for each share of a quota and period, whatever processes see it."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from threading import Barrier, Thread
from typing import Any

import pytest
from tests.keys.store_probes import Call
from tests.machine import eventually, timed

from awx_ratelimit import (
    Budget,
    Caller,
    Gate,
    GuardedBackend,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    QuotaWarnings,
    Rate,
    Request,
    Rule,
)
from awx_ratelimit.core.budget import own_account
from awx_ratelimit.errors import InvalidLimit, KeyStoreUnavailable
from awx_ratelimit.http.owners import Per
from awx_ratelimit.keys import KeyService, KeyStore, QuotaWarning
from awx_ratelimit.observability import latest_decisions
from awx_ratelimit.testing import ManualClock
from awx_ratelimit.testing.adapter_responses import UnavailableBackend

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MONTHLY = Plan("monthly", (Rate("minute", 100, 60_000), Rate("month", 10, period="month", measure="requests")))
DAILY = Plan("daily", (Rate("day", 10, DAY_MS),))
Make = Callable[..., "Watched"]


class Watched:
    """Warnings whose threads never run, and a limiter that reports to them."""

    def __init__(self, clock: ManualClock, backend: Any, **options: Any) -> None:
        self.got: list[QuotaWarning] = []
        if "webhook" not in options:
            options["on_warning"] = self.got.append
        self.warnings = QuotaWarnings(clock=clock, interval_seconds=3_600, **options)
        self.warnings._start = lambda: True
        self.warnings._threads.sender.start = lambda: None  # type: ignore[method-assign]
        self.limiter = Limiter(backend, listeners=[self.warnings])

    def use(self, subject: str, number: int = 1, plan: Plan = MONTHLY, **options: Any) -> None:
        """Make requests, and look at them."""
        for _ in range(number):
            self.limiter.acquire(subject, plan, **options)
        self.look()

    def look(self) -> None:
        """Do what the threads do."""
        self.warnings.look()
        self.warnings._deliver()

    def percents(self) -> list[tuple[str, int]]:
        """The limit and the share of each warning."""
        return [(warning.limit, warning.percent) for warning in self.got]


@pytest.fixture
def watch(clock: ManualClock) -> Make:
    """A function that makes warnings, which share one backend."""
    return partial(Watched, clock, MemoryBackend(clock=clock))


@pytest.fixture
def key(service: KeyService) -> str:
    """The id of a key of acme."""
    return service.create("acme", "n").key.id


def test_calendar_quota(watch: Make, clock: ManualClock) -> None:
    """A quota of the calendar is warned of once at 80 % and once at 100 % in each period; no limit per minute is."""
    watched = watch()
    seen = []
    for number in (7, 1, 1, 1, 5):
        watched.use("a", number)
        seen.append(len(watched.got))
    clock.advance(30 * DAY_MS)
    watched.use("a", 8)

    assert seen == [0, 1, 1, 2, 2]
    assert watched.percents() == [("month", 80), ("month", 100), ("month", 80)]
    assert (watched.got[0].used, watched.got[0].capacity) == (8, 10)
    assert watched.got[0].at == datetime(2025, 6, 1, 10, tzinfo=UTC)
    assert watched.got[0].resets_at == datetime(2025, 7, 1, tzinfo=UTC)


def test_continuous_quota(watch: Make, clock: ManualClock) -> None:
    """A continuous quota is warned of at most once for each share in a period that begins with the warning."""
    watched = watch()
    watched.use("a", 8, DAILY)
    for _ in range(9):
        # Two of ten refill, and are used again.
        clock.advance(2 * HOUR_MS + 24 * 60_000)
        watched.use("a", 1, DAILY)
    one_day = watched.percents()
    clock.advance(3 * HOUR_MS)
    watched.use("a", 1, DAILY)

    assert one_day == [("day", 80)]
    assert watched.percents() == [("day", 80), ("day", 80)]


def test_larger_quota(watch: Make) -> None:
    """After an upgrade of the plan, the larger quota is warned of; a smaller one is not."""
    watched = watch()
    for capacity, number in ((10, 8), (20, 8), (18, 1)):
        watched.use("a", number, Plan("changed", (Rate("month", capacity, period="month"),)))

    assert [(warning.percent, warning.used, warning.capacity) for warning in watched.got] == [(80, 8, 10), (80, 16, 20)]


def test_shared_and_scoped_quotas(watch: Make, store: KeyStore, service: KeyService, key: str) -> None:
    """The quotas of an account, of a route and of everybody are warned of, with the account and the key."""
    watched = watch(store=store)
    wide, roomy = Plan.of("wide", per_minute=100), Plan.of("roomy", per_day=1_000)
    watched.use(key, 8, wide, also=[Budget("acme", DAILY, "account"), Budget("service", DAILY, "service")])
    watched.use(key, 8, DAILY, scope="export")
    # The route's own limit, after which the gate's is the latest.
    for _ in range(8):
        watched.limiter.acquire(key, DAILY, scope="search")
        watched.limiter.acquire(key, roomy)
    watched.use(key, 1, roomy)
    found = {(warning.limit, warning.account_id, warning.key_id, warning.subject) for warning in watched.got}

    assert found == {
        ("account.day", "acme", None, "acme"),
        ("service.day", None, None, "service"),
        ("export.day", "acme", key, key),
        ("search.day", "acme", key, key),
    }


@pytest.mark.parametrize(("per", "account_id"), [("account", "acme"), ("everyone", None)])
@pytest.mark.usefixtures("service")
def test_shared_quota_of_a_rule(per: Per, account_id: str | None, watch: Make, store: KeyStore) -> None:
    """A rule's quota that an account or everybody shares is warned of, whatever the name of the rule."""
    watched = watch(store=store)
    rules = [Rule("/**", budget="export", plan=DAILY, per=per)]
    gate = Gate(
        watched.limiter,
        plans=PlanTable([Plan.of("wide", per_minute=100)], default="wide"),
        identify=lambda _: Caller("user:1", account="acme"),
        rules=rules,
    )
    for _ in range(8):
        gate.admit(Request("GET", "/", None, lambda _: []))
    watched.look()

    assert [(warning.limit, warning.account_id) for warning in watched.got] == [("export.day", account_id)]


@pytest.mark.usefixtures("service")
def test_shared_quota_of_a_route(watch: Make, store: KeyStore) -> None:
    """So is the quota of a route, which is decided by itself."""
    watched = watch(store=store)
    watched.use("acme", 8, DAILY, scope="export")
    watched.use("everyone", 8, DAILY, scope="search")

    assert [(warning.limit, warning.account_id) for warning in watched.got] == [
        ("export.day", "acme"),
        ("search.day", None),
    ]


def test_shared_quota_of_a_function(watch: Make, store: KeyStore) -> None:
    """The quota of a function that all its calls share is warned of."""
    watched = watch(store=store)
    call: Callable[[], None] = watched.limiter.limited(DAILY, scope="export")(lambda: None)
    for _ in range(8):
        call()
    watched.look()

    assert watched.percents() == [("export.day", 80)]


@pytest.mark.usefixtures("service")
def test_namesake_of_an_account(watch: Make, store: KeyStore) -> None:
    """A subject without an account that has the name of one is not that account."""
    watched = watch(store=store)
    watched.use("acme", 8, DAILY, also=[own_account("acme", DAILY), own_account("acme", DAILY, "export")])

    assert watched.got == []


def test_shadow(watch: Make) -> None:
    """A quota in shadow is not warned of, because it refuses nothing."""
    watched = watch()
    watched.use("a", 20, Plan("tried", (Rate("day", 10, DAY_MS, shadow=True),)))

    assert watched.got == []


def test_share_of_a_guard(clock: ManualClock) -> None:
    """While the backend is unavailable, a process's share of a quota is not taken for the quota."""
    guard = GuardedBackend(UnavailableBackend(), expected_workers=5)
    watched = Watched(clock, guard)
    watched.use("a", 2)

    assert not watched.limiter.acquire("a", MONTHLY)
    assert watched.got == []


def test_unknown_subjects(watch: Make, store: KeyStore, key: str) -> None:
    """With a store, nobody but its keys and accounts is warned of, so that clients cannot fill it."""
    watched = watch(store=store)
    for subject in ("203.0.113.7", "key_0123456789abcdef", key):
        watched.use(subject, 8)

    assert [warning.key_id for warning in watched.got] == [key]
    assert _subjects(store) == {key}


def test_processes(watch: Make, store: KeyStore, other_store: KeyStore, service: KeyService) -> None:
    """Of processes that see the same quotas at once, one warns; a process that starts later does not."""
    keys = [service.create("acme", "n").key.id for _ in range(20)]
    plan = Plan("large", (Rate("month", 100, period="month"),))
    first, second = watch(store=store), watch(store=other_store)
    both_used = Barrier(2)

    def work(watched: Watched, keys: list[str]) -> None:
        for key in keys:
            watched.limiter.acquire(key, plan, 40)
        both_used.wait(10)
        for key in keys:
            watched.limiter.acquire(key, plan)
        watched.warnings.look()
        watched.warnings._deliver()

    calls = [Call(work, first, keys), Call(work, second, keys[::-1])]
    ended = [call.ended() for call in calls]
    later = watch(store=store)
    for key in keys:
        later.use(key, 1, plan)

    assert ended == [None, None]
    assert sorted(str(warning.key_id) for warning in [*first.got, *second.got]) == sorted(keys)
    assert later.got == []


def test_store_outage(
    watch: Make, store: KeyStore, key: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store is down, warnings wait; when it is back, they are stored and delivered."""
    watched = watch(store=store)

    def fail(*_: Any) -> None:
        raise KeyStoreUnavailable("down")

    monkeypatch.setattr(store, "write", fail)
    for _ in range(3):
        with pytest.raises(KeyStoreUnavailable):
            watched.use(key, 4)
    health = watched.warnings.health()
    monkeypatch.undo()
    watched.use(key)

    assert health == {"pending": 1, "given_up": 0, "failing": True}
    assert watched.percents() == [("month", 100)]
    assert watched.warnings.health() == {"pending": 0, "given_up": 0, "failing": False}


def test_retention(watch: Make, store: KeyStore, service: KeyService, clock: ManualClock) -> None:
    """What was warned of is forgotten a day after its period, so that the tables stay small."""
    old, new = (service.create("acme", "n").key.id for _ in range(2))
    watched = watch(store=store)
    watched.use(old, 8, DAILY)
    clock.advance(DAY_MS + 23 * HOUR_MS)
    watched.use(new, 8, DAILY)
    before = _subjects(store)
    clock.advance(2 * HOUR_MS)
    watched.use(new, 1, DAILY)

    assert before == {old, new}
    assert _subjects(store) == {new}


def test_abandoned_warning(watch: Make, store: KeyStore, key: str, clock: ManualClock) -> None:
    """A stored warning whose function nobody has any more is removed after a week."""
    other = watch(store=store, webhook="http://localhost:1", secret=f"whsec_{'a' * 32}")
    gone = watch(store=store)
    gone.limiter.acquire(key, MONTHLY, 8)
    gone.warnings.look()
    seen = []
    for days in (6, 2):
        clock.advance(days * DAY_MS)
        other.warnings._deliver()
        seen.append(gone.warnings._outbox.pending(("callback",)))

    assert seen == [1, 0]


def _subjects(store: KeyStore) -> set[str]:
    with store._engines.reading.connect() as connection:
        return {row.subject for row in connection.exec_driver_sql("SELECT subject FROM awx_warned_quotas")}


def test_failing_callback(watch: Make, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the callback is logged, and other warnings are delivered."""
    got: list[str] = []

    def fail(warning: QuotaWarning) -> None:
        got.append(warning.subject)
        raise ZeroDivisionError

    watched = watch()
    watched.warnings._channels["callback"] = lambda warning: fail(QuotaWarning.from_json(warning.body))
    for subject in ("a", "b"):
        watched.use(subject, 8)

    assert got == ["a", "b"]
    assert caplog.text.count("a callback for warnings about quotas failed") == 2


def test_bounded_memory(watch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no room for decisions, the thread is woken, and subjects without a quota need none."""
    monkeypatch.setattr(latest_decisions, "MAX_SUBJECTS", 5)
    watched = watch()
    woken: list[None] = []
    monkeypatch.setattr(watched.warnings, "_wake", lambda: woken.append(None))
    for number in range(20):
        watched.limiter.acquire(f"free-{number}", Plan.of("free", per_minute=9))
    assert woken == []
    for number in range(20):
        watched.limiter.acquire(f"{number}", MONTHLY)

    assert len(woken) == 15
    assert len(watched.warnings._latest) == 5


def test_fork(watch: Make) -> None:
    """A child process delivers no warning of its parent, and warns of what it sees itself."""
    watched = watch()
    for _ in range(8):
        watched.limiter.acquire("a", MONTHLY)
    watched.warnings.look()
    pid = os.fork()
    if not pid:
        try:
            watched.warnings.look()
            watched.warnings._deliver()
            inherited = len(watched.got)
            watched.use("b", 8)
            os._exit(0 if (inherited, watched.got[-1].subject) == (0, "b") else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    watched.warnings._deliver()

    assert status == 0
    assert [warning.subject for warning in watched.got] == ["a"]


def test_threads(clock: ManualClock) -> None:
    """Threads look and deliver by themselves, from the first request on, and `close` ends them."""
    got: list[QuotaWarning] = []
    warnings = QuotaWarnings(on_warning=got.append, interval_seconds=0.01)
    limiter = Limiter(MemoryBackend(), listeners=[warnings])
    for _ in range(8):
        limiter.acquire("a", MONTHLY)
    assert eventually(lambda: len(got), 1) == 1
    limiter.acquire("b", MONTHLY, 9)
    warnings.close()
    assert eventually(lambda: [warning.subject for warning in got], ["a", "b"]) == ["a", "b"]
    with timed() as watch:
        warnings.close()
        limiter.flush()

    assert watch.seconds < watch.limit(0.5)


def test_reopened() -> None:
    """Warnings that were closed and reopened are given by themselves."""
    got: list[QuotaWarning] = []
    warnings = QuotaWarnings(on_warning=got.append, interval_seconds=0.01)
    limiter = Limiter(MemoryBackend(), listeners=[warnings])
    limiter.acquire("a", MONTHLY, 9)
    warnings.close()
    warnings.reopen()
    limiter.acquire("b", MONTHLY, 9)

    assert eventually(lambda: sorted(warning.subject for warning in got), ["a", "b"]) == ["a", "b"]
    warnings.close()


def test_idle_process(watch: Make, store: KeyStore, key: str, clock: ManualClock) -> None:
    """A process that decides nothing delivers the stored warnings of one that has ended, but not at its own end."""
    dead = watch(store=store)
    dead.limiter.acquire(key, MONTHLY, 8)
    dead.warnings.look()
    got: list[QuotaWarning] = []
    slow, quick = (
        QuotaWarnings(on_warning=got.append, store=store, clock=clock, interval_seconds=seconds)
        for seconds in (3_600, 0.01)
    )
    Limiter(MemoryBackend(), listeners=[slow])
    slow.close()
    after_its_end = [*got]
    Limiter(MemoryBackend(), listeners=[quick])

    assert after_its_end == []
    assert eventually(lambda: [warning.subject for warning in got], [key]) == [key]
    quick.close()


def test_no_thread(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """If the process cannot start a thread, decisions go on, one error is logged, and a later decision tries again."""
    got: list[QuotaWarning] = []
    warnings = QuotaWarnings(on_warning=got.append, interval_seconds=0.01)
    limiter = Limiter(MemoryBackend(), listeners=[warnings])
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", _fail_to_start)
        for _ in range(3):
            assert limiter.acquire("a", MONTHLY, 3)
    limiter.acquire("b", MONTHLY, 8)
    subjects = eventually(lambda: sorted(warning.subject for warning in got), ["a", "b"])
    warnings.close()

    assert subjects == ["a", "b"]
    assert caplog.text.count("the thread awx-quotas cannot be started: no more; will retry") == 1


def _fail_to_start(_: Thread) -> None:
    raise RuntimeError("no more")


def test_without_sqlalchemy() -> None:
    """Without a store, the extra `keys` is not needed."""
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from awx_ratelimit import QuotaWarnings\n"
        "QuotaWarnings(on_warning=print).close(); print('made')"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert made.stdout == "made\n"


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({}, InvalidLimit, "expected on_warning or webhook, got neither; write QuotaWarnings(on_warning=print)"),
        ({"on_warning": "print"}, TypeError, "on_warning: expected a function that takes a QuotaWarning, got a str"),
        ({"on_warning": print, "store": "keys.db"}, TypeError,
         "store: expected a KeyStore, got a str; write QuotaWarnings(KeyStore.open('keys.db'))"),
        ({"on_warning": print, "interval_seconds": 0}, InvalidLimit,
         "interval_seconds: expected a number above 0, up to 3600, got 0"),
        ({"secret": "whsec_x"}, InvalidLimit, "webhook: expected the URL that gets the signed warnings, got None"),
    ],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any], error: type[Exception], expected: str) -> None:
    """A wrong argument is an error that says what is expected."""
    with pytest.raises(error) as caught:
        QuotaWarnings(**options)

    assert str(caught.value) == expected
