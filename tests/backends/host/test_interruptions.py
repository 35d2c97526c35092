"""Signal handlers that interrupt code of a host file at any line."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.limiters import limiter, remaining, session
from tests.host_processes import DAY, SLOTS_3, START_MS
from tests.interruptions import Interrupted, every_interruption

from awx_ratelimit import BackendUnavailable, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.index import Index
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.testing import ManualClock


def test_release_in_a_signal_handler(path: Path, clock: ManualClock) -> None:
    """A release that interrupts a decision of its own thread neither deadlocks nor gets lost."""
    held: list[Decision] = []

    class Interrupting(ManualClock):
        def now_ms(self) -> int:
            if held:
                signal.raise_signal(signal.SIGUSR1)
            return super().now_ms()

    backend = Limiter(HostBackend(path, clock=Interrupting(START_MS)))
    before = signal.signal(signal.SIGUSR1, lambda *_: backend.release(held.pop()))
    try:
        held.append(backend.acquire("s", Plan("p", (), Concurrency(3))))
        others = [backend.acquire("s", Plan("p", (), Concurrency(3))) for _ in range(2)]
    finally:
        held.clear()
        signal.signal(signal.SIGUSR1, before)

    assert [decision.allowed for decision in others] == [True, True]
    assert remaining(limiter(path, clock))[1] == 1


def test_exception_in_signal_handler_leaks_nothing(tmp_path: Path, clock: ManualClock) -> None:
    """A signal handler that raises anywhere in a decision or a release leaves no lock and no lease behind."""
    for interruption in every_interruption():
        path = tmp_path / str(interruption.number)
        own = limiter(path, clock)
        own.release(own.acquire("s", SLOTS_3))
        decisions: list[Decision] = []
        with interruption.raising():
            decisions.append(own.backend.acquire("s", SLOTS_3, 1))
            own.backend.release(decisions[0])
        for decision in decisions:
            own.backend.release(decision)

        assert remaining(limiter(path, clock))[1] == 3, interruption.number


def release_one(own: Limiter, held: list[Decision]) -> None:
    own.backend.release(held.pop())


@pytest.mark.parametrize("moved", [False, True], ids=["in the same file", "in another file"])
def test_release_inside_a_claim_frees_one_slot(tmp_path: Path, clock: ManualClock, moved: bool) -> None:
    """A release that interrupts a claim at any line frees its slot, and every process sees the other slots as taken."""
    for interruption in every_interruption():
        path = tmp_path / str(interruption.number)
        own = limiter(path, clock)
        held = [own.acquire("s", SLOTS_3) for _ in range(2)]
        if moved:
            path.unlink()
            session(own)._switch_file(session(own).open())
            # So that the claim below does not allocate a counter page.
            own.acquire("another", SLOTS_3)
        with interruption.calling(partial(release_one, own, held)):
            allowed = own.backend.acquire("s", SLOTS_3, 1).allowed

        assert allowed is True
        assert remaining(limiter(path, clock))[1] == 2 - len(held), interruption.number
        assert remaining(own)[1] == 2 - len(held), interruption.number


def test_failed_write_keeps_earlier_leases(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a claim can be neither written nor undone in the file, the earlier leases still count."""
    own = limiter(path, clock)
    own.acquire("s", SLOTS_3)

    def failing(*_: Any) -> None:
        raise BackendUnavailable("no room")

    with monkeypatch.context() as patched:
        patched.setattr(Table, "write", failing)
        with pytest.raises(BackendUnavailable):
            own.acquire("s", SLOTS_3)

    assert remaining(limiter(path, clock)) == [999, 2]


def test_interrupted_reset_revives_no_old_record(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that a killed process left in a smaller cell stays without effect if a reset is interrupted."""
    killed, resetting, seeing = (limiter(path, clock) for _ in range(3))
    large = Plan("large", (DAY, *(Rate(f"a-limit-of-a-longer-name-{number}", 9, 86_400_000) for number in range(9))))
    killed.acquire("s", SLOTS_3, 10)
    with monkeypatch.context() as patched:
        patched.setattr(Index, "free", lambda *_: None)
        killed.acquire("s", large, 5)
    killed.close()
    free = Index.free
    given_up: list[Any] = []

    def cut_short(index: Index, cell: Any) -> None:
        if given_up:
            raise Interrupted
        given_up.append(cell)
        free(index, cell)

    monkeypatch.setattr(Index, "free", cut_short)
    with pytest.raises(Interrupted):
        resetting.reset("s")

    assert remaining(seeing)[0] == 990


def test_interrupted_claim_keeps_earlier_leases(tmp_path: Path, clock: ManualClock) -> None:
    """A claim that is interrupted at any line ends no lease that the process held before."""
    for interruption in every_interruption():
        path = tmp_path / str(interruption.number)
        own = limiter(path, clock)
        own.acquire("s", SLOTS_3)
        decisions: list[Decision] = []
        with interruption.raising():
            decisions.append(own.backend.acquire("s", SLOTS_3, 1))
        for decision in decisions:
            own.backend.release(decision)

        assert remaining(limiter(path, clock))[1] == 2, interruption.number


def test_interrupted_move_to_a_larger_cell(tmp_path: Path, clock: ManualClock) -> None:
    """If moving a subject to a larger cell is interrupted at any line, all processes agree on its debts afterwards."""
    large = Plan("large", tuple(Rate(f"a-limit-of-a-longer-name-{number}", 9, 86_400_000) for number in range(9)))
    for interruption in every_interruption():
        path = tmp_path / str(interruption.number)
        own, other = limiter(path, clock), limiter(path, clock)
        own.acquire("s", SLOTS_3, 10)
        with interruption.raising():
            own.backend.acquire("s", large, 1)
        for each in (own, other, own, other):
            each.acquire("s", large, 1)
            each.acquire("s", SLOTS_3, 10)

        for each in (own, other, limiter(path, clock)):
            left = {usage.remaining for usage in each.peek("s", large).usages}
            # The interrupted claim was charged to all limits or to none.
            assert left in ({4}, {5}), interruption.number
            assert left == {usage.remaining for usage in own.peek("s", large).usages}, interruption.number
            assert remaining(each)[0] == 970, interruption.number


def test_interrupted_eviction(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an eviction is interrupted at any line, subjects still get decisions, and no two share a lease counter."""
    monkeypatch.setattr("awx_ratelimit.backends.host.ledgers.MAX_LEDGERS", 2)
    for interruption in every_interruption():
        own = limiter(tmp_path / str(interruption.number), clock)
        for subject in ("a", "b"):
            own.release(own.acquire(subject, SLOTS_3))
        session(own).ledgers._eviction_queue = ["a", "b"]
        with interruption.raising():
            session(own).ledgers.evict_two()
        with alarm_after(5):
            held = [own.acquire(subject, SLOTS_3) for subject in ("a", "b", "a", "b")]

        counters = [ledger.counter for ledger in session(own).ledgers.known.values()]
        assert all(decision.allowed for decision in held), interruption.number
        assert len(counters) == len(set(counters)), interruption.number


@contextmanager
def alarm_after(seconds: float) -> Iterator[None]:
    """Fail a block that does not end in time, even if it loops without waiting."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a decision does not end"))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
