"""Processes that are killed or stopped while they hold slots of a host file."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.backends.host.limiters import limiter, remaining, session
from tests.host_processes import DAY, SLOTS_3, StartProcess
from tests.machine import eventually

from awx_ratelimit import BackendUnavailable, Concurrency, Limiter, Plan
from awx_ratelimit.backends.host.locks import THREAD_WAIT_MS
from awx_ratelimit.testing import ManualClock


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

    assert before == 2
    assert eventually(lambda: remaining(here), [998, 2], seconds=10) == [998, 2]


def test_stopped_process_keeps_its_slots(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A process that is stopped outside a decision keeps its slots and delays no other process."""
    here, there = limiter(path, clock), start_process(path)
    there.does("acquire", "s")
    there.stop()
    allowed = [here.acquire("s", SLOTS_3).allowed for _ in range(3)]
    there.go_on()

    assert allowed == [True, True, False]
    assert there.does("remaining", "s") == [997, 0]


def allowed(limiter: Limiter, subject: str) -> bool | None:
    """Whether a claim was allowed; None if it failed."""
    try:
        return limiter.acquire(subject, SLOTS_3).allowed
    except BackendUnavailable:
        return None


def test_process_stopped_in_a_decision(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """The first claim fails after 800 ms and later ones at once; claims succeed again when the stopped process dies."""
    here, there = limiter(path, clock), start_process(path)
    assert there.does("acquire", "s")
    there.stops_in("s")
    waits_s = []
    for _ in range(7):
        begun_s = time.monotonic()
        with pytest.raises(
            BackendUnavailable, match="another process has held a lock for 800 ms; check whether it is stopped"
        ):
            here.acquire("s", SLOTS_3)
        waits_s.append(time.monotonic() - begun_s)
    others = [allowed(here, f"other {number}") for number in range(3)]
    there.kill()

    assert waits_s[0] >= THREAD_WAIT_MS / 1000
    # A busy machine makes some of them late, and none of them early.
    assert min(waits_s[1:]) < 0.04
    # Some may share the lock.
    assert True in others
    assert [here.acquire("s", SLOTS_3).allowed for _ in range(4)] == [True, True, True, False]


def test_process_delayed_in_a_decision(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A busy machine stops a process for 200 ms while it holds the lock: the claims of many threads wait for it."""
    here, there = limiter(path, clock), start_process(path)
    plan = Plan("p", (DAY,), Concurrency(8))
    there.stops_in("s")
    goes_on = threading.Timer(0.2, there.go_on)
    goes_on.start()
    with ThreadPoolExecutor(12) as threads:
        outcomes = list(threads.map(lambda _: here.acquire("s", plan).allowed, range(12)))
    goes_on.join()

    assert sorted(outcomes) == [False] * 4 + [True] * 8
    assert remaining(here, plan) == [992, 0]


def test_release_needs_no_lock(path: Path, clock: ManualClock, start_process: StartProcess) -> None:
    """A release takes effect for all processes while a stopped process holds the lock of the subject."""
    here, there, other = limiter(path, clock), start_process(path), limiter(path, clock)
    held = [here.acquire("s", SLOTS_3) for _ in range(3)]
    assert there.does("remaining", "s") == [997, 0]
    there.stops_in("s")
    here.release(held[0])
    there.kill()

    assert remaining(other) == [997, 1]


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
