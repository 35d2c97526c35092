"""Claims of several budgets in a host file: shared by processes, and whole whatever happens in the middle."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.limiters import limiter, remaining, session, wait_until
from tests.host_processes import BOUNDED, SLOTS_3, StartProcess, with_scopes
from tests.interruptions import Interrupted, every_interruption
from tests.machine import eventually

from awx_ratelimit import BackendUnavailable, Budget, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.core.joint_claim import joint_claim
from awx_ratelimit.testing import ManualClock

#: In other shards than ``s``, so that a claim takes three locks.
OTHERS = ("acme", "all")


def claimed(own: Limiter, cost: int = 1, plan: Plan = SLOTS_3, others: Sequence[str] = OTHERS) -> Decision:
    return own.acquire("s", plan, cost, also=with_scopes(others, plan))


def left(own: Limiter, plan: Plan = SLOTS_3, others: Sequence[str] = OTHERS) -> list[int]:
    """What is left of each limit of each budget."""
    return [usage.remaining for usage in own.peek("s", plan, also=with_scopes(others, plan)).usages]


def test_processes_share_all_budgets(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """Tokens and slots of every budget count in all processes, and those of a dead process come back."""
    here, there = limiter(path, clock), start_process(path)
    held = claimed(here, 10)
    allowed = [there.does("acquire_with", f"key-{number}", *OTHERS) for number in range(3)]
    here.release(held)
    after = left(here)
    there.kill()

    assert allowed == [True, True, False]
    assert after == [990, 3, 988, 1, 988, 1]
    assert eventually(lambda: left(here), [990, 3, 988, 3, 988, 3], seconds=10) == [990, 3, 988, 3, 988, 3]


def test_release_needs_no_lock(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A release takes effect in every record while a stopped process holds the locks."""
    here, there, other = limiter(path, clock), start_process(path), limiter(path, clock)
    held = claimed(here)
    there.stops_in("s")
    here.release(held)
    there.kill()

    assert left(other) == [999, 3] * 3


@pytest.mark.parametrize(
    ("plan", "subject"), [(SLOTS_3, "new"), (BOUNDED, "s")], ids=["a new record", "slots with a bound"]
)
def test_interrupted_claim(tmp_path: Path, clock: ManualClock, plan: Plan, subject: str) -> None:
    """A claim that is interrupted at any line charges all budgets or none, and leaves no slot and no lock behind."""
    for interruption in every_interruption():
        path = tmp_path / str(interruption.number)
        own = limiter(path, clock)
        earlier = claimed(own, 5, plan, ["acme"])
        claim = joint_claim((Budget(subject, plan), *with_scopes(["acme"], plan)), 10)
        decisions: list[Decision] = []
        with interruption.raising():
            decisions.append(own.backend.acquire_joint(claim))
            own.backend.release(decisions[0])
        for decision in decisions:
            own.backend.release(decision)

        seen = _left_of(limiter(path, clock), subject, plan)
        whole = [[990, 3, 985, 2], [1_000, 3, 995, 2]] if subject == "new" else [[985, 2, 985, 2], [995, 2, 995, 2]]
        assert seen in whole, interruption.number
        assert _left_of(own, subject, plan) == seen, interruption.number
        own.release(earlier)
        assert left(limiter(path, clock), plan, ["acme"])[1::2] == [3, 3], interruption.number


def _left_of(own: Limiter, subject: str, plan: Plan) -> list[int]:
    return [usage.remaining for usage in own.peek(subject, plan, also=with_scopes(["acme"], plan)).usages]


def test_release_inside_a_claim(tmp_path: Path, clock: ManualClock) -> None:
    """A release that interrupts a claim at any line frees its slots, and no others."""
    for interruption in every_interruption():
        path = tmp_path / str(interruption.number)
        own = limiter(path, clock)
        held = [claimed(own, others=["acme"]) for _ in range(2)]
        with interruption.calling(lambda own=own, held=held: own.backend.release(held.pop())):  # type: ignore[misc]
            allowed = claimed(own, others=["acme"]).allowed

        assert allowed is True
        assert left(limiter(path, clock), others=["acme"])[1::2] == [2 - len(held)] * 2, interruption.number
        assert left(own, others=["acme"])[1::2] == [2 - len(held)] * 2, interruption.number


def test_interrupted_settlement(tmp_path: Path, clock: ManualClock) -> None:
    """A settlement that is interrupted at any line is whole, or did nothing and can be repeated."""
    for interruption in every_interruption():
        own = limiter(tmp_path / str(interruption.number), clock)
        declared = own.acquire("s", SLOTS_3, 10, also=with_scopes(["acme"]), settle=True)
        claimed(own, 5, others=["acme"])
        with interruption.raising():
            own.settle(declared, 3)
        before = left(own, others=["acme"])[::2]
        own.settle(declared, 3)

        assert before in ([985] * 2, [992] * 2), interruption.number
        assert left(own, others=["acme"])[::2] == [992] * 2, interruption.number


def test_killed_between_two_writes(path: Path, clock: ManualClock) -> None:
    """A process that is killed between the writes of two records has charged the first ones, and holds no slot."""
    own = limiter(path, clock)
    for written in (1, 2):
        _killed_after(written, lambda: claimed(limiter(path, clock), 100))

        assert left(own)[1::2] == [3, 3, 3]
    assert sorted(left(own)[::2]) == [800, 900, 1_000]


def _killed_after(written: int, act: Callable[[], Any]) -> None:
    """Call `act` in a child that is killed after so many records are written."""
    child = os.fork()
    if child == 0:
        write, writes = Table.write, []

        def write_or_die(table: Table, *args: Any, **options: Any) -> None:
            write(table, *args, **options)
            writes.append(args)
            if len(writes) == written:
                os.kill(os.getpid(), signal.SIGKILL)

        Table.write = write_or_die  # type: ignore[method-assign, assignment]
        act()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_no_room_for_one_record(path: Path, clock: ManualClock) -> None:
    """If one record cannot be written, the claim is an error, and the others are as they were before."""
    own = limiter(path, clock)
    claimed(own)
    rates = tuple(Rate(f"a-limit-with-a-long-name-{number:06}", 5, 86_400_000) for number in range(3_000))
    large = Budget("large", Plan("large", rates), "large")
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="the state of 'large' needs"):
            own.acquire("s", SLOTS_3, 5, also=[*with_scopes(OTHERS[:1]), large, *with_scopes(OTHERS)[1:]])

    assert left(own) == [999, 2] * 3
    assert left(limiter(path, clock)) == [999, 2] * 3


def test_failed_write_is_undone(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that fails, the records that were written before it are as they were, open claims included."""
    own = limiter(path, clock)
    declared = own.acquire("s", SLOTS_3, 10, also=with_scopes(OTHERS), settle=True)
    write, writes = Table.write, []

    def failing(table: Table, *args: Any, **options: Any) -> None:
        writes.append(args)
        if len(writes) == 3:
            raise Interrupted
        write(table, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "write", failing)
        with pytest.raises(Interrupted):
            own.backend.acquire_joint(declared.joint_claim)  # type: ignore[attr-defined]
    after = left(limiter(path, clock))
    clock.advance(1)
    own.refund(declared)

    assert after == [990, 2] * 3
    assert left(own) == [1_000, 2] * 3


def test_new_records_take_no_cell_of_the_claim(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that a claim creates never get the cell of another record of that claim, however idle that one is."""
    monkeypatch.setattr("awx_ratelimit.backends.host.table._CELLS_PER_SWEEP", 100)
    own = limiter(path, clock)
    minute = Plan.of("p", per_minute=1_000)
    own.acquire("s", minute, scope="last")
    clock.advance(300_000)
    scopes = ["first", "second", "third", "last"]
    decision = own.acquire("s", minute, 7, scope="zero", also=[Budget("s", minute, scope) for scope in scopes])

    seen = limiter(path, clock)
    assert decision.allowed is True
    assert [seen.peek("s", minute, scope=scope).usages[0].remaining for scope in ["zero", *scopes]] == [993] * 5


@pytest.mark.parametrize("scopes", [40, 400])
def test_many_scopes_of_one_subject(path: Path, clock: ManualClock, scopes: int) -> None:
    """Hundreds of scopes of one subject need little room, and a reset by any process clears all of them."""
    own, other = limiter(path, clock), limiter(path, clock)
    plan = Plan.of("p", per_day=5)
    for number in range(scopes):
        own.acquire("s", plan, scope=f"scope-{number}")
        own.acquire("t", plan, scope=f"scope-{number}")
    size = path.stat().st_size
    other.reset("s")

    names = [f"scope-{number}" for number in range(scopes)]
    assert size < 500_000 + 8_000 * scopes
    assert {own.peek("s", plan, scope=name).usages[0].remaining for name in names} == {5}
    assert {own.peek("t", plan, scope=name).usages[0].remaining for name in names} == {4}


def test_reset_keeps_leases_of_all_scopes(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A reset of a subject keeps the leases of every process in all its scopes."""
    here, there, other = limiter(path, clock), start_process(path), limiter(path, clock)
    held = claimed(here, others=["s", "s"])
    assert there.does("acquire_with", "s", "s", "s") is True
    expiring = here.acquire("s", BOUNDED, scope="scope-0")
    other.reset("s")
    during = left(other, others=["s", "s"])
    there.does("reset", "s")
    here.release(held)
    here.release(expiring)

    assert during == [1_000, 1, 1_000, 0, 1_000, 1]
    assert left(other, others=["s", "s"]) == [1_000, 2] * 3


def test_release_after_the_file_was_replaced(path: Path, clock: ManualClock) -> None:
    """All slots of a claim move to a new file, and its release frees all of them there."""
    own, other = limiter(path, clock), limiter(path, clock)
    held = claimed(own)
    path.unlink()
    for each in (own, other):
        session(each)._switch_file(session(each).open())
    wait_until(lambda: left(other) == [1_000, 2] * 3)
    own.release(held)

    assert left(other) == [1_000, 3] * 3


def test_threads_in_opposite_orders(path: Path, clock: ManualClock) -> None:
    """Claims of the same budgets in opposite orders do not block each other, and get exactly what there is."""
    limiters = [limiter(path, clock), limiter(path, clock)]
    plan, allowed = Plan("p", (Rate("day", 200, 86_400_000),), Concurrency(4)), []
    orders = [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")]

    def work(number: int) -> None:
        subject, *others = orders[number % 3]
        budgets = [Budget(each, plan, each) for each in others]
        for _ in range(120):
            with suppress(BackendUnavailable):
                decision = limiters[number % 2].acquire(subject, plan, scope=subject, also=budgets)
                allowed.append(decision.allowed)
                limiters[number % 2].release(decision)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usages = [limiters[0].peek(each, plan, scope=each).usages for each in "abc"]

    assert len(allowed) > 200
    assert [(day.remaining, slots.remaining) for day, slots in usages] == [(200 - allowed.count(True), 4)] * 3


def test_declared_claims_of_several_processes(path: Path, clock: ManualClock) -> None:
    """Declared claims of several processes are given back exactly, however their charges and settlements alternate."""
    limiters = [limiter(path, clock) for _ in range(3)]
    plan = Plan.of("p", per_minute=60)
    decisions = [each.acquire("s", plan, settle=True) for _ in range(10) for each in limiters]
    clock.advance(1_000)
    for number, decision in enumerate(decisions):
        limiters[number % 3].refund(decision)

    assert [remaining(each, plan) for each in limiters] == [[60]] * 3


def test_lowest_debts_are_in_the_file(path: Path, clock: ManualClock) -> None:
    """What drained before the next claim of another process is not given back."""
    first, second = limiter(path, clock), limiter(path, clock)
    plan = Plan.of("p", per_minute=60)
    drained = first.acquire("s", plan, 10, settle=True)
    clock.advance(10_000)
    second.acquire("s", plan, 15, settle=True)
    first.refund(drained)

    assert remaining(second, plan) == [45]


def test_old_declared_claims_leave_the_file(path: Path, clock: ManualClock) -> None:
    """Claims that have been open for more than ten minutes are dropped when their record is next charged."""
    own = limiter(path, clock)
    plan = Plan.of("p", per_day=1_000)
    for _ in range(3):
        own.acquire("s", plan, settle=True)
    clock.advance(600_001)
    own.acquire("s", plan)
    ledger = session(own).ledgers.known["s"]
    shown = HostBackend(path, clock=clock)
    shown.peek("s", plan, 1)

    assert ledger.open is None
    assert shown._session.ledgers.known["s"].open is None
