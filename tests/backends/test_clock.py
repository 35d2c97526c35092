import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from awx_ratelimit import HostBackend, Limiter, MemoryBackend, Plan
from awx_ratelimit.runtime.clock import SystemClock
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("small", per_minute=5, concurrent=5)


class Machine:
    """A machine whose clocks a test turns by hand."""

    wall_s = 1_000_000.0
    steady_s = 500.0
    running_s = 300.0
    interrupted_s = 0.0

    def monotonic(self) -> float:
        self.running_s += self.interrupted_s
        return self.running_s

    def run(self, seconds: float) -> None:
        self.running_s += seconds
        self.steady_s += seconds
        self.wall_s += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall_s)
    monkeypatch.setattr(time, "clock_gettime", lambda _: machine.steady_s)
    monkeypatch.setattr(time, "monotonic", machine.monotonic)
    return machine


def test_small_steps_are_ignored(machine: Machine) -> None:
    """A wall clock that steps by at most a second does not change the time."""
    clock = SystemClock()
    clock.now_ms()
    machine.run(2)
    machine.wall_s += 1

    assert clock.now_ms() == 1_000_002_000


@pytest.mark.parametrize("step_s", [3_600, -3_600, 3])
def test_large_steps_are_followed(machine: Machine, step_s: int) -> None:
    """If the wall clock differs by more than a second, its time is taken."""
    clock = SystemClock()
    clock.now_ms()
    machine.run(1)
    machine.wall_s += step_s

    assert clock.now_ms() == 1_000_000_000 + (step_s + 1) * 1_000


def test_suspend(machine: Machine) -> None:
    """The time of a suspend is added within a tenth of a second."""
    clock = SystemClock()
    machine.steady_s += 3_600
    machine.wall_s += 3_600
    machine.run(0.25)

    assert clock.now_ms() == 1_003_600_250


def test_interrupted_reading(machine: Machine) -> None:
    """A thread that is interrupted between two readings ignores their difference."""
    clock = SystemClock()
    machine.run(0.25)
    machine.interrupted_s = 0.5
    machine.steady_s += 0.5

    assert clock.now_ms() == 1_000_000_750


def test_time() -> None:
    """The time is in milliseconds since the epoch."""
    assert abs(SystemClock().now_ms() - time.time() * 1000) < 2_000


class StrangeClock(ManualClock):
    """Returns what a test tells it."""

    told: Any = 1_000

    def now_ms(self) -> Any:
        return self.told


class Time(IntEnum):
    """Times that are no exact ints."""

    NOON = 5_000


@pytest.mark.parametrize("told", [1.5, None, True, "noon"])
@pytest.mark.parametrize("kind", ["memory", "host"])
def test_wrong_time(tmp_path: Path, kind: str, told: Any) -> None:
    """A clock must return an int. Otherwise a claim raises a TypeError that says so, and nothing is charged."""
    clock = StrangeClock()
    limiter = Limiter(MemoryBackend(clock=clock) if kind == "memory" else HostBackend(tmp_path / "limits", clock=clock))
    limiter.release(limiter.acquire("s", PLAN))
    clock.told = told
    with pytest.raises(TypeError, match=r"^clock: expected an int from now_ms\(\), got .*; write int"):
        limiter.acquire("s", PLAN)
    clock.told = 1_000

    assert [usage.remaining for usage in limiter.peek("s", PLAN).usages] == [4, 5]
    limiter.close()


def test_subclass_of_int() -> None:
    """Of a time that is a subclass of int only the number counts."""
    clock = StrangeClock()
    clock.told = Time.NOON

    assert type(Limiter(MemoryBackend(clock=clock)).acquire("s", PLAN).decided_at_ms) is int
