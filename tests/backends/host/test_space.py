"""How a host file and a process reuse space, and how large a subject can be."""

from pathlib import Path

import pytest
from tests.backends.host.limiters import limiter, remaining, session
from tests.host_processes import SLOTS_3, StartProcess

from awx_ratelimit import BackendUnavailable, Concurrency, Plan, Rate
from awx_ratelimit.testing import ManualClock


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
    for crowd in range(7):
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
    monkeypatch.setattr("awx_ratelimit.backends.host.ledgers.MAX_LEDGERS", 50)
    own = limiter(path, clock)
    held = [own.acquire(f"{number}", SLOTS_3) for number in range(20)]
    for _ in range(2):
        for number in range(500):
            own.release(own.acquire(f"{number}", SLOTS_3))

    assert len(session(own).ledgers.known) < 100
    assert remaining(limiter(path, clock), subject="3") == [997, 2]
    for decision in held:
        own.release(decision)
    assert remaining(limiter(path, clock), subject="3") == [997, 3]
