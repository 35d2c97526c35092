"""Processes that fork while they use a host file."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends.host.limiters import decided, limiter, remaining
from tests.host_processes import SLOTS_3
from tests.processes import FORK_PARAMETERS, in_child

from awx_ratelimit import Limiter, Plan
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock

FAST = Plan.of("fast", per_minute=10**8, concurrent=100)


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
    outcomes = [in_child(os.fork, decide) for _ in range(8)]
    over.set()
    for thread in threads:
        thread.join()

    assert outcomes == [True] * 8
    assert min(done) > 0
    assert own.peek("s", FAST).usages[-1].remaining == 100
