"""Threads of one process that share a host file."""

import mmap
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.limiters import decided, limiter, remaining, session
from tests.host_processes import DAY, SLOTS_3, StartProcess

from awx_ratelimit import Concurrency, Decision, Plan
from awx_ratelimit.backends.host.mapped_file import MappedFile
from awx_ratelimit.testing import ManualClock

MANY = Plan.of("many", per_minute=500, per_day=700, concurrent=3)


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


def test_slow_thread_moves_no_ledger_back(path: Path, clock: ManualClock) -> None:
    """A thread that still has the previous file does not move a ledger back to it."""
    own = limiter(path, clock)
    own.acquire("s", SLOTS_3)
    old = session(own).open()
    path.unlink()
    new = session(own)._switch_file(old)
    own.acquire("s", SLOTS_3)
    ledger = session(own).ledgers.known["s"]
    ledger.shard.run_among_threads(session(own)._move, ledger, old)

    assert ledger.table is new
    assert remaining(own) == [999, 1]


def test_mapping_never_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that read the size of the file before it grew does not replace the mapping of the larger file."""
    file = MappedFile(str(tmp_path / "limits"), 1_000)
    real, size_is_read, larger_is_mapped = mmap.mmap, threading.Event(), threading.Event()

    def late_mmap(*arguments: Any) -> mmap.mmap:
        if not size_is_read.is_set():
            size_is_read.set()
            larger_is_mapped.wait(0.2)
        return real(*arguments)

    os.posix_fallocate(file.fd, file.file_bytes(), 4_096)
    monkeypatch.setattr(mmap, "mmap", late_mmap)
    late = threading.Thread(target=file.map)
    late.start()
    size_is_read.wait(5)
    os.posix_fallocate(file.fd, file.file_bytes(), 4_096)
    file.map()
    larger_is_mapped.set()
    late.join(5)

    assert len(file.memory) == file.file_bytes()
    file.close()
