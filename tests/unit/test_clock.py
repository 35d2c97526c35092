import time

import pytest

from awx_ratelimit.backends.clock import SystemClock


class Machine:
    """A machine whose two clocks a test turns by hand."""

    wall_s = 1_000_000.0
    steady_s = 500.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall_s)
    monkeypatch.setattr(time, "clock_gettime", lambda _: machine.steady_s)
    return machine


def test_time_is_carried_on_by_the_steady_clock(machine: Machine) -> None:
    """A wall clock that steps by at most a second does not move the time."""
    clock = SystemClock()
    clock.now_ms()
    machine.steady_s += 2
    machine.wall_s += 3

    assert clock.now_ms() == 1_000_002_000


@pytest.mark.parametrize("step_s", [3_600, -3_600, 3])
def test_a_wall_clock_that_was_set_is_followed_within_a_second(machine: Machine, step_s: int) -> None:
    """A wall clock that differs by more than a second is taken anew."""
    clock = SystemClock()
    clock.now_ms()
    machine.steady_s += 1
    machine.wall_s += step_s + 1

    assert clock.now_ms() == 1_000_000_000 + (step_s + 1) * 1_000


def test_the_time_is_the_machines() -> None:
    """It is milliseconds since the epoch."""
    assert abs(SystemClock().now_ms() - time.time() * 1000) < 2_000
