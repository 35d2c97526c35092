"""Disks that are full or read-only: one clear error, and never a dead process."""

import contextlib
import resource
import subprocess
from pathlib import Path

import pytest
from tests.backends.host.files import assert_refused, mounted
from tests.host_processes import SLOTS_3, START_MS, StartProcess

from awx_ratelimit import BackendUnavailable, Limiter
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.mapped_file import (
    PAGE_BYTES,
)
from awx_ratelimit.testing import ManualClock


def filled(limiter: Limiter, why: str) -> list[str]:
    """Claim for new subjects until there is no room; the subjects that got a decision."""
    known: list[str] = []
    with pytest.raises(BackendUnavailable, match=why):
        fill(limiter, known)
    return known


def fill(limiter: Limiter, known: list[str]) -> None:
    for number in range(5_000):
        limiter.acquire(str(number), SLOTS_3)
        known.append(str(number))


def test_read_only_file_system(tmp_path: Path) -> None:
    """The error names the path and the remedy."""
    with mounted(tmp_path / "small", "ro,size=1m") as folder:
        assert_refused(folder / "limits", "its file system is read-only; choose another path")


def test_full_disk_at_start(tmp_path: Path) -> None:
    """Space is allocated when the file is created; if there is none, that is an error."""
    with mounted(tmp_path / "small", "size=128k") as folder:
        assert_refused(folder / "limits", "there is no space left on the disk; free some, or choose another path")


def test_full_disk_later(tmp_path: Path) -> None:
    """On a full disk known subjects still get decisions and new ones get errors, until there is space again."""
    with mounted(tmp_path / "small", "size=600k") as folder:
        limiter = Limiter(HostBackend(folder / "limits", clock=ManualClock(START_MS)))
        known = filled(limiter, "no space left")
        again = [limiter.acquire(subject, SLOTS_3).allowed for subject in known[::50]]
        held = sum(3 - limiter.peek(subject, SLOTS_3).usages[1].remaining for subject in known)
        subprocess.run(["mount", "-o", "remount,size=2m", str(folder)], check=True)

        assert len(known) > 100
        assert all(again)
        assert held == len(known) + len(again)
        assert limiter.acquire(str(len(known)), SLOTS_3).allowed
        limiter.close()


def test_sparse_copy_on_a_full_disk(tmp_path: Path, start_process: StartProcess) -> None:
    """A sparse copy of the file is allocated when it is opened, so a full disk later kills no process."""
    with mounted(tmp_path / "small", "size=3m") as folder:
        limiter = Limiter(HostBackend(tmp_path / "limits", clock=ManualClock(START_MS)))
        for number in range(1_500):
            limiter.acquire(str(number), SLOTS_3)
        limiter.close()
        subprocess.run(["cp", "--sparse=always", tmp_path / "limits", folder], check=True)
        holes = (folder / "limits").stat().st_blocks * 512 < (folder / "limits").stat().st_size
        there = start_process(folder / "limits")
        there.does("remaining", "s")
        with contextlib.suppress(OSError), (folder / "full").open("wb") as file:
            while True:
                file.write(bytes(PAGE_BYTES))
                file.flush()
        answers = [there.does("acquire", f"another {number}") for number in range(500)]
        there.kill()

    assert holes is True
    assert True in answers
    assert "no space left" in str(answers)


def test_file_size_limit(path: Path) -> None:
    """If the process may not write larger files, new subjects get errors."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20 * PAGE_BYTES, before[1]))
    try:
        filled(limiter, "the file may not grow")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert limiter.acquire("s", SLOTS_3).allowed
