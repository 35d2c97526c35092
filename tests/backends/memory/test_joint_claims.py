"""Claims of several budgets in memory: their fast path, its interruptions, and threads."""

import sys
import threading
from typing import Any

import pytest
from blockbuster import BlockBuster
from tests.backends.memory.test_memory import YieldingClock
from tests.interruptions import alarms

from awx_ratelimit import Budget, Concurrency, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.backends.memory.leases import Leases
from awx_ratelimit.backends.memory.sharded_memory import MAX_SCOPES
from awx_ratelimit.core.calendar_periods import CalendarPeriods
from awx_ratelimit.testing import ManualClock

PAIR = Plan.of("pair", per_minute=100_000, per_day=100_000, concurrent=100_000)
ONE_RATE = Plan("one", (Rate("hour", 100_000, 3_600_000),), Concurrency(100_000))
CALENDAR = Plan.of("calendar", per_month=100_000, concurrent=100_000)


def budgets(*plans: Plan) -> list[Budget]:
    return [Budget(f"s{number}", plan, scope=f"scope{number}") for number, plan in enumerate(plans)]


# An alarm inside a finalizer goes nowhere: Python reports it and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("plans", [(PAIR, PAIR), (PAIR,), (ONE_RATE, CALENDAR, PAIR)], ids=["3", "2", "4"])
def test_signals_charge_all_budgets_or_none(
    nothing_blocks_the_event_loop: BlockBuster, plans: tuple[Plan, ...]
) -> None:
    """After exceptions from a signal handler, at any moment, all budgets have equal debts, and no lock is taken."""
    nothing_blocks_the_event_loop.deactivate()
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter, also = Limiter(backend), budgets(*plans)
    raised, armed = 0, list[bool]()
    with alarms(armed):
        for _ in range(20_000):
            try:
                armed[:] = [True]
                limiter.release(limiter.acquire("key", PAIR, also=also))
                armed.clear()
            except TimeoutError:
                raised += 1

    usages = limiter.peek("key", PAIR, also=also).usages
    assert len({usage.remaining for usage in usages if "concurrent" not in usage.limit}) == 1
    assert not any(shard.lock.locked() for shard in backend._shards)
    assert raised > 5


@pytest.mark.parametrize("place", range(1, 4))
def test_exception_in_a_record(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """An exception while a record is decided leaves every budget as it was, with its slots."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter, also, calls = Limiter(backend), budgets(CALENDAR, CALENDAR, CALENDAR), []
    limiter.release(limiter.acquire("key", PAIR, also=also))

    # Compiled code looks up nothing that a test could replace, but the periods of a calendar.
    def failing(periods: CalendarPeriods, at_ms: int) -> tuple[int, int]:
        calls.append(at_ms)
        if len(calls) == place:
            raise KeyboardInterrupt
        return bounds(periods, at_ms)

    bounds = CalendarPeriods.bounds
    monkeypatch.setattr(CalendarPeriods, "bounds", failing)
    backend.clock.advance(1)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("key", PAIR, also=also)
    monkeypatch.undo()

    usages = limiter.peek("key", PAIR, also=also).usages
    used = {usage.limit: usage.capacity - usage.remaining for usage in usages}
    assert used.pop("minute") == 0, "more than a token refills in the millisecond"
    assert {used.pop(limit) for limit in [*used] if "concurrent" in limit} == {0}
    assert set(used.values()) == {1}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("refusing", range(5))
def test_refused_by_any_budget(number: int, refusing: int) -> None:
    """Whichever budget refuses, a known claim charges nothing, takes no slot, and names the limit."""
    limiter = Limiter(MemoryBackend(clock=ManualClock(1_000)))
    small = Plan.of("small", per_minute=1, per_day=100_000, concurrent=3)
    plans = [small if at == refusing % (number + 1) else PAIR for at in range(number + 1)]
    also = budgets(*plans[1:])
    limiter.release(limiter.acquire("key", plans[0], also=also))

    refused = limiter.acquire("key", plans[0], also=also)

    assert [usage.limit.rpartition(".")[2] for usage in refused.usages if usage.refused] == ["minute"]
    days = [usage for usage in limiter.peek("key", plans[0], also=also).usages if usage.limit.endswith("day")]
    assert {usage.remaining for usage in days} == {99_999}
    slots = [usage for usage in refused.usages if usage.limit.endswith("concurrent")]
    assert all(usage.remaining == usage.capacity for usage in slots)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_slots_of_some_budgets(number: int) -> None:
    """Only the budgets with slots are charged a slot, and a release gives back each of them once."""
    limiter = Limiter(MemoryBackend())
    rates = Plan.of("rates", per_minute=100)
    for places in range(2 ** (number + 1)):
        plans = [PAIR if places >> at & 1 else rates for at in range(number + 1)]
        also = [Budget(f"s{places}", plan, scope=f"x{at}") for at, plan in enumerate(plans[1:])]
        for _ in range(2):
            decision = limiter.acquire(f"key{places}", plans[0], also=also)
            slots = [usage.remaining for usage in decision.usages if usage.limit.endswith("concurrent")]
            assert slots == [99_999] * places.bit_count()
            assert (decision.lease is not None) is (places > 0)
            for _twice in range(2):
                limiter.release(decision)

    assert limiter.health()["leases"] == 0


def test_records_that_share_a_shard() -> None:
    """Records whose shards are the same, in any combination, are locked once each and decided."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter = Limiter(backend)
    found = set()
    for number in range(60_000):
        also = [Budget(f"a{number % 250}", PAIR, scope="a"), Budget(f"b{number % 7}", PAIR, scope="b")]
        decision = limiter.acquire(f"k{number % 240}", PAIR, also=also)
        assert decision.allowed
        limiter.release(decision)
        numbers = [hash(record) & 63 for record in decision.joint_claim.records]  # type: ignore[attr-defined]
        found.add((numbers[0] == numbers[1], numbers[1] == numbers[2], numbers[0] == numbers[2]))
        if len(found) == 5:
            break

    assert len(found) >= 4
    assert not any(shard.lock.locked() for shard in backend._shards)


def test_threads_share_budgets_exactly() -> None:
    """Eight threads with keys of their own get exactly the tokens of their account, and no slot is lost."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    limiter = Limiter(MemoryBackend(clock=YieldingClock(1_000)))
    account = Plan.of("account", per_minute=500, per_day=700, concurrent=3)
    allowed: list[bool] = []
    most_held: list[int] = []

    def hammer(key: str) -> None:
        also = [Budget("acme", account, scope="account"), Budget("all", PAIR, scope="service")]
        for number in range(200):
            decision = limiter.acquire(key, PAIR, also=also[: number % 3 + 1][:2])
            allowed.append(decision.allowed)
            most_held.append(3 - decision.usages[5].remaining if number % 3 else 0)
            limiter.release(decision)

    threads = [threading.Thread(target=hammer, args=(f"key{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)

    left = limiter.peek("key0", PAIR, also=[Budget("acme", account, scope="account")]).usages
    assert len(allowed) == 1_600
    assert sum(allowed) == 500 - left[3].remaining
    assert max(most_held) <= 3
    assert left[5].remaining == 3


def test_max_hold() -> None:
    """A joint lease that is held too long frees the slot of the budget with the bound."""
    clock = ManualClock(1_000)
    limiter = Limiter(MemoryBackend(clock=clock))
    bounded = Plan("bounded", (), Concurrency(1, max_hold_ms=5_000))
    also = [Budget("acme", bounded, scope="account")]
    full = Plan.of("full", per_minute=1)
    limiter.acquire("full", full)
    # A refusal leaves the account's state in memory, without a bound.
    assert limiter.acquire("full", full, also=also).allowed is False
    assert limiter.acquire("key", PAIR).allowed is True
    held = limiter.acquire("key", PAIR, also=also)
    clock.advance(4_999)
    early = limiter.acquire("key", PAIR, also=also)
    clock.advance(1)
    late = limiter.acquire("key", PAIR, also=also)
    limiter.release(held)

    assert [decision.allowed for decision in (held, early, late)] == [True, False, True]
    assert limiter.acquire("key", PAIR, also=also).allowed is False
    assert limiter.peek("key", PAIR).usages[-1].remaining == 99_998


class FailingLeases(Leases):
    """Leases that nobody can add to: an exception of a signal handler in that moment."""

    def add(self, _: int) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("failing", range(4))
def test_exception_while_slots_are_taken(number: int, failing: int) -> None:
    """An exception in the middle of a charge takes back what was charged, in every budget, with its slots."""
    backend = MemoryBackend(clock=ManualClock(1_000))
    limiter, also = Limiter(backend), budgets(*[PAIR] * (number - 1))
    decision = limiter.acquire("key", PAIR, also=also)
    limiter.release(decision)
    record = decision.joint_claim.records[failing % number]  # type: ignore[attr-defined]
    state = backend._shards[hash(record) & 63].states[record]
    leases, state.leases = state.leases, FailingLeases()

    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("key", PAIR, also=also)
    state.leases = leases

    usages = limiter.peek("key", PAIR, also=also).usages
    assert {usage.remaining for usage in usages if "concurrent" not in usage.limit} == {99_999}
    assert {usage.remaining for usage in usages if "concurrent" in usage.limit} == {100_000}


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_claims_beside_an_open_one(number: int) -> None:
    """Claims that are not declared are noted for a declared one that is open, in every budget."""
    clock = ManualClock(1_000)
    limiter, minute = Limiter(MemoryBackend(clock=clock)), Plan.of("sixty", per_minute=60)
    also = budgets(*[minute] * number)
    declared = limiter.acquire("key", minute, 30, also=also, settle=True)
    for _ in range(2):
        clock.advance(10_000)
        limiter.acquire("key", minute, 5, also=also)
    limiter.refund(declared)

    usages = limiter.peek("key", minute, also=also).usages
    assert [usage.remaining for usage in usages] == [55] * (number + 1)


@pytest.mark.parametrize("terms", [{}, {"settle": True}, {"also": [Budget("acme", ONE_RATE, "account")]}])
def test_settling_skips_what_a_shadow_limit_did_not_charge(terms: Any) -> None:
    """A limit in shadow that would have refused was not charged, so settling changes nothing there."""
    limiter = Limiter(MemoryBackend(clock=ManualClock(1_000)))
    plan = Plan("p", (Rate("minute", 5, 60_000, shadow=True), Rate("day", 50, 86_400_000)))
    first, second = (limiter.acquire("key", plan, 4, **terms) for _ in range(2))
    limiter.settle(second, 1)

    assert second.usages[0].refused is True
    assert [usage.remaining for usage in limiter.peek("key", plan).usages] == [1, 45]
    limiter.refund(first)
    assert [usage.remaining for usage in limiter.peek("key", plan).usages] == [5, 49]


@pytest.mark.parametrize("scopes", [MAX_SCOPES - 1, MAX_SCOPES + 5])
def test_a_reset_with_many_scopes(scopes: int) -> None:
    """A reset clears every scope of its subject and no other subject, and the scopes that are known are bounded."""
    backend = MemoryBackend(clock=ManualClock())
    limiter = Limiter(backend)
    plan = Plan.of("p", per_day=5)
    for number in range(scopes):
        limiter.acquire("s", plan, 5, scope=f"scope-{number}")
    limiter.acquire("s", plan, 5)
    limiter.acquire("t", plan, 5, scope="scope-0")
    limiter.reset("s")

    assert all(limiter.peek("s", plan, 5, scope=f"scope-{number}") for number in range(scopes))
    assert limiter.peek("s", plan, 5).allowed is True
    assert limiter.peek("t", plan, 1, scope="scope-0").allowed is False
    assert len(backend._scopes) <= MAX_SCOPES
