"""Several processes that share the limits of one host file."""

import shutil
import time
from pathlib import Path

import pytest
from tests.backends.host.limiters import limiter, remaining
from tests.host_processes import BOUNDED, SLOTS_3, START_MS, StartProcess

from awx_ratelimit import BackendUnavailable, Limiter
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock


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


def test_reopened(path: Path, clock: ManualClock) -> None:
    """A closed backend that is reopened decides by what the file has. The leases from before are over."""
    backend = HostBackend(path, clock=clock)
    own = Limiter(backend)
    held = own.acquire("s", SLOTS_3)
    backend.reopen()
    kept = own.health()["leases"]
    own.close()
    backend.reopen()
    own.release(held)

    assert kept == 1
    assert own.health()["state"] == "ok"
    assert [own.acquire("s", SLOTS_3).allowed for _ in range(4)] == [True, True, True, False]
    own.close()


def test_reopened_without_a_folder(tmp_path: Path, clock: ManualClock) -> None:
    """Reopening never raises. If the file cannot be opened any more, a claim says why."""
    folder = tmp_path / "folder"
    folder.mkdir()
    backend = HostBackend(folder / "limits", clock=clock)
    backend.close()
    shutil.rmtree(folder)
    backend.reopen()

    with pytest.raises(BackendUnavailable, match="its folder does not exist; create it"):
        Limiter(backend).acquire("s", SLOTS_3)
    backend.close()


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
