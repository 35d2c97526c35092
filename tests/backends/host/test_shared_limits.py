"""Several processes, threads, signals and forks that share one host file."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.interruptions import Interrupted, every_interruption
from tests.host_processes import BOUNDED, DAY, SLOTS_3, START_MS, StartProcess
from tests.processes import FORK_PARAMETERS, in_child

from awx_ratelimit import BackendUnavailable, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.testing import ManualClock

FAST = Plan.of("fast", per_minute=10**8, concurrent=100)
MANY = Plan.of("many", per_minute=500, per_day=700, concurrent=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "limits"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of this process; other processes start at the same time."""
    return ManualClock(START_MS)


def limiter(path: Path, clock: ManualClock) -> Limiter:
    return Limiter(HostBackend(path, clock=clock))


def session(limiter: Limiter) -> Any:
    return limiter.backend._session  # type: ignore[attr-defined]


def remaining(limiter: Limiter, plan: Plan = SLOTS_3) -> list[int]:
    return [usage.remaining for usage in limiter.peek("s", plan).usages]


def decided(own: Limiter, subject: str, plan: Plan) -> Decision:
    """A decision, however long others hold the lock: on a busy machine longer than a decision waits for it."""
    while True:
        with suppress(BackendUnavailable):
            return own.acquire(subject, plan)


def test_processes_share_rates_and_slots(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """Tokens and slots that one process takes or gives back count for another process at once."""
    here, there = limiter(path, clock), start_process(path)
    held = here.acquire("s", SLOTS_3, 10)
    allowed = [there.does("acquire", "s") for _ in range(3)]
    here.release(held)

    assert allowed == [True, True, False]
    assert there.does("remaining", "s") == [988, 1]
    assert there.does("acquire", "s") is True


def test_usage_survives_all_processes(path: Path, clock: ManualClock) -> None:
    """After all processes have ended, a new one finds their usage and none of their leases."""
    before = limiter(path, clock)
    for _ in range(3):
        before.acquire("s", SLOTS_3, 100)
    before.close()

    assert remaining(limiter(path, clock)) == [700, 3]


def test_killed_process_frees_its_slots_at_once(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """When all slots are taken, a claim gets the slots of dead processes; the tokens they used stay used."""
    here, there = limiter(path, clock), start_process(path)
    held = [there.does("acquire", "s") for _ in range(3)]
    alive = here.acquire("s", SLOTS_3)
    there.kill()

    assert held == [True] * 3
    assert alive.allowed is False
    assert [here.acquire("s", SLOTS_3).allowed for _ in range(4)] == [True] * 3 + [False]
    assert remaining(here) == [994, 0]


def test_killed_process_disappears_from_peek(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """The maintenance thread notices a dead process within a second, even while slots are free."""
    here, there = limiter(path, clock), start_process(path)
    there.does("acquire", "s")
    before = here.acquire("s", SLOTS_3).held
    there.kill()
    until_s = time.monotonic() + 10
    while remaining(here)[1] == 1 and time.monotonic() < until_s:
        time.sleep(0.02)

    assert before == 2
    assert remaining(here) == [998, 2]


def test_reset_keeps_leases(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A reset forgets the debts of a subject; every process still counts all its leases."""
    here, there, other = limiter(path, clock), start_process(path), limiter(path, clock)
    assert here.acquire("s", SLOTS_3).allowed
    assert there.does("acquire", "s") is True

    here.reset("s")
    assert remaining(other) == [1_000, 1]
    assert there.does("remaining", "s") == [1_000, 1]

    other.reset("s")
    assert remaining(here) == [1_000, 1]
    assert remaining(other) == [1_000, 1]
    assert there.does("remaining", "s") == [1_000, 1]


def test_stopped_process_keeps_its_slots(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A process that is stopped outside a decision keeps its slots and delays no other process."""
    here, there = limiter(path, clock), start_process(path)
    there.does("acquire", "s")
    there.stop()
    allowed = [here.acquire("s", SLOTS_3).allowed for _ in range(3)]
    there.go_on()

    assert allowed == [True, True, False]
    assert there.does("remaining", "s") == [997, 0]


def test_process_stopped_in_a_decision(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """The first claim fails after 40 ms and later ones at once; claims succeed again when the stopped process dies."""
    here, there = limiter(path, clock), start_process(path)
    assert there.does("acquire", "s")
    there.stops_in("s")
    waits_s = []
    for _ in range(5):
        begun_s = time.monotonic()
        with pytest.raises(
            BackendUnavailable, match="another process has held a lock for 40 ms; check whether it is stopped"
        ):
            here.acquire("s", SLOTS_3)
        waits_s.append(time.monotonic() - begun_s)
    others = here.acquire("other", SLOTS_3)
    there.kill()

    assert waits_s[0] >= 0.04
    assert sorted(waits_s[1:])[1] < 0.05
    assert others.allowed is True
    assert [here.acquire("s", SLOTS_3).allowed for _ in range(4)] == [True, True, True, False]


def test_release_needs_no_lock(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A release takes effect for all processes while a stopped process holds the lock of the subject."""
    here, there, other = limiter(path, clock), start_process(path), limiter(path, clock)
    held = [here.acquire("s", SLOTS_3) for _ in range(3)]
    assert there.does("remaining", "s") == [997, 0]
    there.stops_in("s")
    here.release(held[0])
    there.kill()

    assert remaining(other) == [997, 1]


def test_threads_never_exceed_a_limit(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """Threads of two backends get exactly the tokens of the limit, and never a slot too many."""
    limiters = [limiter(path, clock), limiter(path, clock)]
    there = start_process(path)
    outcomes: Counter[bool] = Counter()
    alive: set[int] = set()
    held: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        own = limiters[number % 2]
        for _ in range(300):
            decision = decided(own, "s", MANY)
            with lock:
                outcomes[decision.allowed] += 1
                if decision.allowed:
                    alive.add(decision.lease_id)
                    # A refused claim may count a slot that another thread is releasing.
                    held.extend((decision.held, len(alive)))
            time.sleep(0)
            with lock:
                alive.discard(decision.lease_id)
            own.release(decision)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)

    assert outcomes[True] == 500
    assert outcomes[False] == 1_300
    assert max(held) > 1
    assert max(held) <= 3
    assert [usage.remaining for usage in limiters[0].peek("s", MANY).usages] == [0, 200, 3]
    assert there.does("remaining", "s")[1] == 3


def test_threads_create_one_ledger(path: Path, clock: ManualClock) -> None:
    """If several threads see a subject for the first time together, all their leases count and all can be released."""
    own, other, count = limiter(path, clock), limiter(path, clock), 4
    plan = Plan("p", (DAY,), Concurrency(count))
    begin = threading.Barrier(count)
    held: list[Decision] = []

    def work() -> None:
        for number in range(150):
            begin.wait()
            held.append(decided(own, str(number), plan))

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        running = [threading.Thread(target=work) for _ in range(count)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    full = [[usage.remaining for usage in other.peek(str(number), plan).usages] for number in range(150)]
    for decision in held:
        own.release(decision)
    free = [other.peek(str(number), plan).usages[1].remaining for number in range(150)]

    assert {decision.allowed for decision in held} == {True}
    assert len(held) == 150 * count
    assert full == [[996, 0]] * 150
    assert free == [count] * 150


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
        patched.setattr(Table, "_free", lambda *_: None)
        killed.acquire("s", large, 5)
    killed.close()
    free = Table._free
    given_up: list[Any] = []

    def cut_short(table: Table, cell: Any) -> None:
        if given_up:
            raise Interrupted
        given_up.append(cell)
        free(table, cell)

    monkeypatch.setattr(Table, "_free", cut_short)
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
    monkeypatch.setattr("awx_ratelimit.backends.host.session._MAX_LEDGERS", 2)
    for interruption in every_interruption():
        own = limiter(tmp_path / str(interruption.number), clock)
        for subject in ("a", "b"):
            own.release(own.acquire(subject, SLOTS_3))
        session(own)._eviction_queue = ["a", "b"]
        with interruption.raising():
            session(own)._evict_two()
        with alarm_after(5):
            held = [own.acquire(subject, SLOTS_3) for subject in ("a", "b", "a", "b")]

        counters = [ledger.counter for ledger in session(own)._ledgers.values()]
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


def test_slow_thread_moves_no_ledger_back(path: Path, clock: ManualClock) -> None:
    """A thread that still has the previous file does not move a ledger back to it."""
    own = limiter(path, clock)
    own.acquire("s", SLOTS_3)
    old = session(own).open()
    path.unlink()
    new = session(own)._switch_file(old)
    own.acquire("s", SLOTS_3)
    ledger = session(own)._ledgers["s"]
    ledger.shard.run_among_threads(session(own)._move, ledger, old)

    assert ledger.table is new
    assert remaining(own) == [999, 1]


def test_reused_counter_page(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A process that reuses the counter page of a dead one inherits none of its leases, and the file does not grow."""
    dead = start_process(path)
    for number in range(20):
        assert dead.does("acquire", str(number))
    dead.kill()
    heir = limiter(path, clock)
    heirs = [heir.acquire(f"another {number}", SLOTS_3) for number in range(400)]
    size = path.stat().st_size

    assert [limiter(path, clock).peek(str(number), SLOTS_3).usages[1].remaining for number in range(20)] == [3] * 20
    assert [heir.peek(str(number), SLOTS_3).usages[1].remaining for number in range(20)] == [3] * 20
    assert len(session(heir).open().counters._own_pages) == 1
    assert path.stat().st_size == size
    assert len(heirs) == 400


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_child_has_its_own_leases(path: Path, clock: ManualClock, fork: Callable[[], int]) -> None:
    """A forked child cannot release its parent's leases, and the child's leases end with the child."""
    own = limiter(path, clock)
    held = [own.acquire("s", SLOTS_3) for _ in range(2)]

    def act() -> bool:
        own.release(held[0])
        own.refund(held[0])
        return own.acquire("s", SLOTS_3).held == 3 and not own.acquire("s", SLOTS_3).allowed

    assert in_child(fork, act) is True
    assert remaining(own) == [997, 1]


def test_child_keeps_no_lease_of_its_parent(path: Path, clock: ManualClock) -> None:
    """The slots of a killed parent are free although its child lives."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        own = limiter(path, clock)
        for _ in range(3):
            own.acquire("s", SLOTS_3)
        if os.fork() == 0:
            os.close(writing)
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    os.waitpid(parent, 0)
    assert os.read(reading, 1) == b""
    os.close(reading)

    assert remaining(limiter(path, clock)) == [997, 3]


def test_fork_while_threads_decide(path: Path) -> None:
    """A child that is forked while threads decide can decide, and the threads continue."""
    own, over = Limiter(HostBackend(path)), threading.Event()
    done = [0, 0, 0]

    def work(number: int) -> None:
        while not over.is_set():
            own.release(decided(own, "s", FAST))
            done[number] += 1

    def decide() -> bool:
        decision = decided(own, "s", FAST)
        own.release(decision)
        return decision.allowed

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    outcomes = [in_child(os.fork, decide) for _ in range(15)]
    over.set()
    for thread in threads:
        thread.join()

    assert outcomes == [True] * 15
    assert min(done) > 0
    assert own.peek("s", FAST).usages[-1].remaining == 100


def test_lease_expires_in_every_process(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A lease ends for all processes after `max_hold_ms`, or earlier if it is released."""
    here, there = limiter(path, clock), start_process(path)
    for _ in range(3):
        there.does("acquire", "s", "bounded")
    full = here.acquire("s", BOUNDED)
    there.does("release")
    earlier = remaining(here, BOUNDED)[1]
    there.stop()
    clock.advance(5_000)

    assert full.allowed is False
    assert earlier == 1
    assert [here.acquire("s", BOUNDED).allowed for _ in range(4)] == [True, True, True, False]


def test_large_record(path: Path, clock: ManualClock) -> None:
    """A subject can have hundreds of expiring leases and dozens of limits, which all processes see."""
    own, other = limiter(path, clock), limiter(path, clock)
    slots = Concurrency(300, max_hold_ms=9_000)
    for number in range(60):
        plan = Plan("p", (Rate(f"limit-{number}", 5, 86_400_000),), slots)
        assert own.acquire("s", plan).allowed
        assert other.acquire("s", plan).allowed

    usages = other.peek("s", Plan("all", tuple(Rate(f"limit-{n}", 5, 86_400_000) for n in range(60)), slots)).usages
    assert [usage.remaining for usage in usages[:-1]] == [3] * 60
    assert usages[-1].remaining == 180


def test_record_that_is_too_large(path: Path, clock: ManualClock) -> None:
    """A subject with too many limits gets an error, and keeps its tokens and slots."""
    own = limiter(path, clock)
    own.acquire("s", SLOTS_3)
    rates = tuple(Rate(f"a-limit-with-a-long-name-{number:06}", 5, 86_400_000) for number in range(3_000))
    with pytest.raises(BackendUnavailable, match="the state of 's' needs"):
        own.acquire("s", Plan("p", rates, Concurrency(3)))

    assert remaining(limiter(path, clock)) == [999, 2]


def test_file_reuses_its_space(path: Path, clock: ManualClock) -> None:
    """Idle subjects make room for new ones, so the file does not grow without end."""
    own = limiter(path, clock)
    plan = Plan.of("p", per_second=1)
    sizes = []
    for crowd in range(12):
        for number in range(2_000):
            assert own.acquire(f"{crowd} {number}", plan).allowed
        clock.advance(120_000)
        sizes.append(path.stat().st_size)

    assert sizes[0] > 1_000_000
    assert sizes[-1] <= 2 * sizes[1]


def test_sweep_keeps_held_slots(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """The sweep keeps subjects that hold a slot in any process, even if they owe nothing."""
    here, there, other = limiter(path, clock), start_process(path), limiter(path, clock)
    here.acquire("s", SLOTS_3)
    there.does("acquire", "another")
    clock.advance(3 * 86_400_000)
    for each in (here, other):
        table = session(each).open()
        for shard in table.file.shards:
            for _ in range(8):
                shard.try_run(table.sweep, shard, clock.now_ms())

    late = limiter(path, clock)
    assert [late.peek(subject, SLOTS_3).usages[1].remaining for subject in ("s", "another")] == [2, 2]


def test_evicted_ledgers(path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process evicts idle ledgers beyond the maximum, finds their subjects again, and keeps all leases."""
    monkeypatch.setattr("awx_ratelimit.backends.host.session._MAX_LEDGERS", 50)
    own = limiter(path, clock)
    held = [own.acquire(f"{number}", SLOTS_3) for number in range(20)]
    for _ in range(2):
        for number in range(500):
            own.release(own.acquire(f"{number}", SLOTS_3))

    assert len(session(own)._ledgers) < 100
    assert remaining_of(limiter(path, clock), "3") == [997, 2]
    for decision in held:
        own.release(decision)
    assert remaining_of(limiter(path, clock), "3") == [997, 3]


def remaining_of(limiter: Limiter, subject: str) -> list[int]:
    return [usage.remaining for usage in limiter.peek(subject, SLOTS_3).usages]


def test_health(path: Path, clock: ManualClock) -> None:
    """`health` counts the leases of this process, and says after `close` that the backend is closed."""
    own = limiter(path, clock)
    own.acquire("s", SLOTS_3)
    well = own.health()
    own.close()
    own.close()

    assert well["state"] == "ok"
    assert well["leases"] == 1
    assert well["backend"] == "host"
    assert own.health()["state"] == f"{path}: this backend is closed"


def test_claim_after_close(path: Path, clock: ManualClock) -> None:
    """After `close` a claim is an error and a release does nothing."""
    own = limiter(path, clock)
    held = own.acquire("s", SLOTS_3)
    own.close()
    own.release(held)

    with pytest.raises(BackendUnavailable, match="this backend is closed"):
        own.acquire("s", SLOTS_3)


def test_default_clock_is_the_system_clock(path: Path) -> None:
    """Without a `clock`, decisions use the system's time, which all processes share."""
    before_ms = time.time_ns() // 1_000_000 - 1
    decided_at_ms = Limiter(HostBackend(path)).acquire("s", SLOTS_3).decided_at_ms

    assert before_ms <= decided_at_ms <= time.time_ns() // 1_000_000 + 1


def test_time_beyond_64_bits(path: Path) -> None:
    """A time that does not fit in 64 bits is an error, and the claim takes nothing."""
    clock = ManualClock(2**63)
    own = limiter(path, clock)
    with pytest.raises(ValueError, match="64 bits"):
        own.acquire("s", SLOTS_3)
    clock.set(START_MS)

    assert remaining(own) == [1_000, 3]
