"""What a process counts for the usage history, until somebody takes it: exactly, without waiting, within bounds."""

import contextlib
import os
import threading
from typing import Any

import pytest
from tests.interruptions import every_interruption

from awx_ratelimit import (
    AsyncLimiter,
    Budget,
    Caller,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    RefusalLog,
    Request,
    Rule,
)
from awx_ratelimit.adapters.wsgi.middleware import Slot
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http.route_admission_sync import admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit
from awx_ratelimit.keys.format import is_key_id
from awx_ratelimit.observability import usage_history as module
from awx_ratelimit.observability.listeners import Listener
from awx_ratelimit.observability.subject_counts import HourUsage
from awx_ratelimit.observability.usage_history import HOUR_MS, UsageCounts
from awx_ratelimit.testing import ManualClock

HOUR = 486_000 * HOUR_MS
KEY, OTHER_KEY = "key_0123456789abcdef", "key_fedcba9876543210"
PLAN = Plan.of("starter", per_minute=100, per_day=1_000, concurrent=10)
SMALL = Plan.of("small", per_minute=2, concurrent=10)
WIDE = Plan.of("wide", per_minute=10**6, concurrent=10**6)
ACCOUNT = Plan.of("account", per_minute=3)
ALSO = [Budget("acme", ACCOUNT, scope="account")]


class Calls:
    """Counts calls."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        self.number += 1
        return True


class Counted:
    """A limiter and what it has reported."""

    def __init__(self) -> None:
        self.clock = ManualClock(HOUR)
        self.started, self.woken = Calls(), Calls()
        self.counts = UsageCounts("key_", is_key_id, start=self.started, wake=self.woken)
        self.limiter = Limiter(MemoryBackend(clock=self.clock), listeners=[self.counts])

    def taken(self) -> list[HourUsage]:
        """Everything that was counted, in order."""
        self.counts.rotate()
        return sorted(self.counts.take(10_000))


@pytest.fixture
def counted() -> Counted:
    return Counted()


def usage(subject: str = KEY, begins_ms: int = HOUR, **fields: Any) -> HourUsage:
    """What was used, at the beginning of the hour."""
    nothing = {"allowed": 0, "refused": 0, "peak": 0, "last_at_ms": begins_ms, "costs": {}, "refusals": {}}
    return HourUsage(subject, begins_ms, **{**nothing, **fields})


@pytest.mark.parametrize("also", [[], [Budget("acme", WIDE, scope="account")]], ids=["plain", "joint"])
@pytest.mark.parametrize("number", [1, 500], ids=["one", "many"])
def test_allowed(counted: Counted, also: list[Budget], number: int) -> None:
    """Allowed requests, their cost, the peak of slots in use and the last use are counted by key."""
    for _ in range(number):
        held = [counted.limiter.acquire(KEY, WIDE, also=also) for _ in range(2)]
        for decision in held:
            counted.limiter.release(decision)
    counted.clock.advance(7)
    counted.limiter.acquire(OTHER_KEY, WIDE, 5, also=also)
    mine, other = counted.taken()

    assert mine == usage(allowed=2 * number, peak=2, costs={"requests": 2 * number})
    assert other == usage(OTHER_KEY, allowed=1, peak=1, last_at_ms=HOUR + 7, costs={"requests": 5})


def test_refused(counted: Counted) -> None:
    """A refusal is counted by each limit that refused, and costs nothing."""
    for _ in range(5):
        counted.limiter.acquire(KEY, SMALL)

    assert counted.taken() == [usage(allowed=2, refused=3, peak=2, costs={"requests": 2}, refusals={"minute": 3})]


def test_refused_by_the_account(counted: Counted) -> None:
    """A refusal of a shared limit has its scope, and counts for the key whose request it was."""
    for _ in range(4):
        counted.limiter.acquire(KEY, PLAN, also=ALSO)
    counted.limiter.acquire(OTHER_KEY, PLAN, also=ALSO)
    mine, other = counted.taken()

    assert mine == usage(allowed=3, refused=1, peak=3, costs={"requests": 3}, refusals={"account.minute": 1})
    assert other == usage(OTHER_KEY, refused=1, refusals={"account.minute": 1})


def test_shadow_refusals(counted: Counted) -> None:
    """What a limit in shadow would have refused is an allowed request, and is counted by that limit."""
    tried = Plan.of("tried", per_minute=1, shadow=True)
    also = [Budget("acme", Plan.of("account", per_minute=2, shadow=True), scope="account")]
    for _ in range(3):
        counted.limiter.acquire(KEY, tried)
        counted.limiter.acquire(OTHER_KEY, WIDE, 1, also=also)
    mine, other = counted.taken()

    assert mine == usage(allowed=3, costs={"requests": 3}, shadows={"minute": 2})
    assert other == usage(OTHER_KEY, allowed=3, peak=3, costs={"requests": 3}, shadows={"account.minute": 1})


def test_refused_and_in_shadow(counted: Counted) -> None:
    """A request that another limit refuses is not counted by the limit in shadow."""
    tried = Plan("tried", (Rate("minute", 2, 60_000), Rate("day", 1, 86_400_000, shadow=True)))
    for _ in range(4):
        counted.limiter.acquire(KEY, tried)

    assert counted.taken() == [
        usage(allowed=2, refused=2, costs={"requests": 2}, refusals={"minute": 2}, shadows={"day": 1})
    ]


@pytest.mark.parametrize(
    ("settle", "costs"),
    [
        ({"requests": 1, "tokens": 300}, {"requests": 1, "tokens": 300}),
        ({"tokens": 0}, {"requests": 1}),
        ({"tokens": 900, "images": 2}, {"requests": 1, "tokens": 900, "images": 2}),
        (None, {}),
    ],
)
def test_settled(counted: Counted, settle: dict[str, int] | None, costs: dict[str, int]) -> None:
    """The cost by measure is what the request has cost in the end; a refund is a cost of nothing."""
    decision = counted.limiter.acquire(KEY, PLAN, {"requests": 1, "tokens": 800}, settle=True)
    for _ in range(2):
        if settle is None:
            counted.limiter.refund(decision)
        else:
            counted.limiter.settle(decision, settle)

    assert counted.taken() == [usage(allowed=1, peak=1, costs=costs)]


def test_settled_later(counted: Counted) -> None:
    """A correction after the counts were taken is a difference for the hour of the request."""
    decision = counted.limiter.acquire(KEY, PLAN, {"tokens": 800}, settle=True)
    counted.taken()
    counted.clock.advance(2 * HOUR_MS)
    counted.limiter.settle(decision, {"tokens": 100})

    assert counted.taken() == [usage(costs={"tokens": -700}, last_at_ms=0)]


def test_hours(counted: Counted) -> None:
    """The time of the decision decides the hour, in UTC."""
    for at_ms in (HOUR + HOUR_MS - 1, HOUR + HOUR_MS, HOUR + HOUR_MS - 1):
        counted.clock.set(at_ms)
        counted.limiter.acquire(KEY, PLAN)
    first, second = counted.taken()

    assert (first.begins_ms, first.allowed) == (HOUR, 2)
    assert (second.begins_ms, second.allowed) == (HOUR + HOUR_MS, 1)


@pytest.mark.parametrize("subject", ["address:192.0.2.1", "key_short", "key_0123456789abcde!", "acme"])
def test_other_subjects(counted: Counted, subject: str) -> None:
    """A subject that cannot be a stored key is not kept, however many requests it makes."""
    for _ in range(200):
        counted.limiter.acquire(subject, SMALL)

    assert counted.taken() == []
    assert counted.counts.untaken == 0


def test_scopes(counted: Counted) -> None:
    """A claim in a scope, such as that of a route, is a part of a request and not another one."""
    counted.limiter.acquire(KEY, PLAN, scope="export")

    assert counted.taken() == []


def test_strange_measures(counted: Counted) -> None:
    """Only measures that can have a limit are kept, and not more than 16 of them."""
    odd = {"=cmd|' /C calc'!A1": 1, "a\x00b": 1, "x" * 33: 1, "ok": 1}
    decision = counted.limiter.acquire(KEY, PLAN, odd, settle=True)
    counted.limiter.settle(decision, {f"m{number}": 1 for number in range(100)})
    (found,) = counted.taken()

    assert found.costs == {"ok": 1, **{f"m{number}": 1 for number in range(15)}}


class SettlesLater(MemoryBackend):
    """Settles in a later call, as Redis does, so that no response waits."""

    def settle_soon(self, decision: Decision, actual: Any, _failed: Any) -> bool:
        return self.settle(decision, actual)


@pytest.mark.parametrize("backend", [MemoryBackend, SettlesLater])
@pytest.mark.parametrize("per", ["caller", "everyone"])
def test_route_refuses(counted: Counted, backend: type[MemoryBackend], per: Any) -> None:
    """A request that its route refuses after the gate has admitted it is one refused request, which costs nothing."""
    counted.limiter = Limiter(backend(clock=counted.clock), listeners=[counted.counts])
    gate = Gate(counted.limiter, plans=PlanTable([PLAN], default="starter"), identify=lambda _: Caller(KEY))
    limit = RouteLimit("1/hour", per=per, scope="export")
    for _ in range(3):
        request = Request("GET", "/", "192.0.2.1", lambda _: [])
        slot = Slot(gate, [], gate.admit(request).decision)
        slot.add_route(gate, admit_to_route(limit, "route", request, {}, gate, [slot]).decision)
        slot.close()

    assert counted.taken() == [usage(allowed=1, refused=2, peak=1, costs={"requests": 1}, refusals={"export.hour": 2})]


def test_refused_by_a_route_and_in_shadow(counted: Counted) -> None:
    """A request that its route refuses is not counted by the limit in shadow that it exceeded before."""
    tried = Plan("starter", (Rate("minute", 1, 60_000, shadow=True), Rate("day", 100, 86_400_000)))
    gate = Gate(counted.limiter, plans=PlanTable([tried], default="starter"), identify=lambda _: Caller(KEY))
    limit = RouteLimit("2/hour", scope="export")
    for _ in range(4):
        request = Request("GET", "/", "192.0.2.1", lambda _: [])
        slot = Slot(gate, [], gate.admit(request).decision)
        slot.add_route(gate, admit_to_route(limit, "route", request, {}, gate, [slot]).decision)
        slot.close()

    (mine,) = counted.taken()
    assert (mine.allowed, mine.refused) == (2, 2)
    assert mine.shadows == {"minute": 1}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("backend", [MemoryBackend, SettlesLater])
def test_request_that_says_what_it_has_cost(counted: Counted, backend: type[MemoryBackend], status: int) -> None:
    """What the app says that a request has cost is its cost, without what is charged on some statuses alone."""
    limiter = Limiter(backend(clock=counted.clock), listeners=[counted.counts])
    failures = Plan.of("failures", per_minute=5)
    rule = Rule("/**", cost={"requests": 1, "tokens": 800}, budget="failed", plan=failures, charge_on={500})
    gate = Gate(limiter, plans=PlanTable([PLAN], default="starter"), identify=lambda _: Caller(KEY), rules=[rule])
    slot = Slot(gate, [], gate.admit(Request("GET", "/", "192.0.2.1", lambda _: [])).decision)
    slot.note({"tokens": 523})
    slot.note_status(status)
    slot.close()

    assert counted.taken() == [usage(allowed=1, peak=1, costs={"requests": 1, "tokens": 523})]


def test_threads(counted: Counted) -> None:
    """Threads lose nothing, also while another thread takes the counts."""
    found: list[HourUsage] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            found.extend(counted.taken())

    def work() -> None:
        for _ in range(5_000):
            counted.limiter.acquire(KEY, WIDE)

    taker, workers = threading.Thread(target=take), [threading.Thread(target=work) for _ in range(4)]
    for thread in (taker, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    taker.join()
    # The second time finds what was counted while the first took it.
    found += counted.taken() + counted.taken()

    assert len(found) > 2
    assert sum(each.allowed for each in found) == 20_000
    assert sum(each.costs["requests"] for each in found) == 20_000


def test_late_thread(counted: Counted) -> None:
    """What a thread counts while its counts are taken is in the next ones."""
    for _ in range(200):
        counted.limiter.release(counted.limiter.acquire(KEY, WIDE))
    counts = counted.counts._current[0][0][KEY]
    before = sum(each.allowed for each in counted.taken())
    counts.add_one()

    assert before == 200
    assert counted.taken() == [usage(allowed=1, peak=1, costs={"requests": 1})]
    assert counted.taken() == []


def test_start(counted: Counted) -> None:
    """The first decision of a process starts what writes."""
    before = counted.started.number
    for _ in range(300):
        counted.limiter.acquire(KEY, PLAN)

    assert before == 0
    assert counted.started.number == 1


def test_fork(counted: Counted) -> None:
    """A child process starts at zero, and its first decision starts what writes."""
    for _ in range(100):
        counted.limiter.acquire(KEY, WIDE)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        started = counted.started.number
        counted.limiter.acquire(OTHER_KEY, WIDE)
        said = [counted.started.number - started, *(each.subject for each in counted.taken())]
        os.write(writer, repr(said).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    said_by_child = os.read(reader, 100).decode()
    os.close(reader)

    assert said_by_child == repr([1, OTHER_KEY])
    assert [(each.subject, each.allowed) for each in counted.taken()] == [(KEY, 100)]


def test_many_subjects(counted: Counted) -> None:
    """With many keys, memory stays bounded, whoever writes is woken early, and what is not counted is counted."""
    number = 4 * module.MAX_SUBJECTS
    decision = counted.limiter.acquire("any", WIDE)
    fields = tuple(decision)
    report = counted.counts.reporter(lambda _: None)
    for index in range(number):
        report(tuple.__new__(Decision, (f"key_{index:016d}", *fields[1:])))
    counted.counts.rotate()

    assert counted.counts.untaken == module.MAX_SUBJECTS
    assert counted.counts.dropped == number - module.MAX_SUBJECTS
    assert counted.woken.number > 0


def test_busy_counter(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread counts, no request waits for it, and the list of what is not counted is bounded."""
    monkeypatch.setattr(module, "MAX_UNCOUNTED", 1_000)
    counted.limiter.acquire(OTHER_KEY, PLAN)
    with counted.counts._lock.current:
        for _ in range(3_000):
            counted.limiter.acquire(KEY, SMALL)
        kept = len(counted.counts._uncounted)
    found = sum(each.allowed + each.refused for each in counted.taken() if each.subject == KEY)

    assert kept <= 1_001
    assert found + counted.counts.dropped == 3_000


class Interrupted(BaseException):
    """A worker's time-out, which a signal handler raises anywhere."""


def test_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a signal interrupts a request, at most one is not counted, none twice, and counting goes on."""
    monkeypatch.setattr(module, "_BATCH", 4)
    deciding = Limiter(MemoryBackend(clock=ManualClock(HOUR)))
    decisions = [deciding.acquire(KEY, SMALL) for _ in range(9)]
    for interruption in every_interruption():
        counted = Counted()
        report = counted.counts.reporter(lambda _: None)
        reported = 0
        with interruption.raising():
            for decision in decisions:
                reported += 1
                report(decision)
        assert not counted.counts._lock.current.locked()
        for decision in decisions:
            report(decision)
        (found,) = counted.taken()

        assert reported + 9 - interruption.happened <= found.allowed + found.refused <= reported + 9


def test_interrupt(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a request is interrupted while it counts, its slot is released and the other requests are still counted."""
    decisions = [counted.limiter.acquire(KEY, SMALL) for _ in range(40)]
    seen: list[Decision] = []
    count = counted.counts._count

    def fail(decision: Any) -> None:
        seen.append(decision)
        if len(seen) == 10:
            raise Interrupted
        count(decision)

    monkeypatch.setattr(counted.counts, "_count", fail)
    released: list[Any] = []
    report = counted.counts.reporter(released.append)
    reported: list[Decision] = []
    with contextlib.suppress(Interrupted):
        for decision in decisions * 2:
            reported.append(decision)
            report(decision)
    monkeypatch.undo()
    (found,) = counted.taken()

    assert released == reported[-1:]
    # Without the one that was being counted.
    assert found.allowed + found.refused == len(decisions) + len(reported) - 1


def test_with_other_listeners(counted: Counted) -> None:
    """Several listeners all get every decision."""
    seen: list[Decision] = []
    limiter = Limiter(MemoryBackend(clock=counted.clock), listeners=[counted.counts, seen.append, RefusalLog()])
    for _ in range(200):
        limiter.acquire(KEY, PLAN)

    assert len(seen) == 200
    assert sum(each.allowed + each.refused for each in counted.taken()) == 200


@pytest.mark.anyio
async def test_async_limiter(counted: Counted) -> None:
    """An AsyncLimiter reports the same."""
    limiter = AsyncLimiter(MemoryBackend(clock=counted.clock), listeners=[counted.counts])
    decision = await limiter.acquire(KEY, PLAN, 3, settle=True)
    await limiter.settle(decision, 2)
    await limiter.flush()

    assert counted.taken() == [usage(allowed=1, peak=1, costs={"requests": 2})]


class _Kept(list[Decision]):
    """A fast listener, which an exit may interrupt."""

    def reporter(self, release: Listener) -> Listener:
        return self.keep

    def __call__(self, decision: Decision) -> None:
        raise AssertionError("its reporter is faster")

    def keep(self, decision: Decision) -> None:
        self.append(decision)
        if len(self) == 3:
            raise Interrupted


def test_fast_listeners(counted: Counted) -> None:
    """Several fast listeners get every decision, and the slot of an interrupted request is released."""
    first, last = _Kept([None] * 9), _Kept()  # type: ignore[list-item]  # never the third
    limiter = Limiter(MemoryBackend(clock=counted.clock), listeners=[first, counted.counts, last])
    for _ in range(2):
        limiter.acquire(KEY, PLAN)
    with pytest.raises(Interrupted):
        limiter.acquire(KEY, PLAN)
    (found,) = counted.taken()

    assert first[9:] == last
    assert len(last) == found.allowed == 3
    assert limiter.peek(KEY, PLAN).held == 2
