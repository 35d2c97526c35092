"""Files that are damaged, truncated or incomplete: one clear error, and never a dead process."""

import contextlib
import os
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from tests.backends.host.files import assert_refused
from tests.backends.host.limiters import wait_until
from tests.host_processes import SLOTS_3, START_MS, StartProcess
from tests.strangers import NOBODY, unprivileged

from awx_ratelimit import BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.mapped_file import (
    FIRST_COUNTER_PAGE_AT,
    PAGE_BYTES,
    SPACE_AT,
    MappedFile,
)
from awx_ratelimit.backends.host.opening import _set_aside
from awx_ratelimit.runtime.looking import looking
from awx_ratelimit.testing import ManualClock


def test_other_version(path: Path) -> None:
    """The error names the version of the file and the version that the library reads."""
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.seek(8)
        file.write((9).to_bytes(2, "little"))

    assert_refused(
        path, "the file has version 9, and this library reads version 2; stop the processes that use it and delete it"
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of thousands of subjects."""
    path = tmp_path_factory.mktemp("full") / "limits"
    limiter = Limiter(HostBackend(path))
    for number in range(3_000):
        limiter.acquire(str(number), SLOTS_3)
    limiter.close()
    return path


@pytest.mark.parametrize("at", [12, 40, PAGE_BYTES + 20, PAGE_BYTES * 64 + 500])
def test_damaged_header_or_root(path: Path, full: Path, at: int) -> None:
    """Changed bytes in the header or in a root are an error when the file is opened."""
    copyfile(full, path)
    HostBackend(path).close()
    with path.open("r+b") as file:
        for half in (0, PAGE_BYTES // 2):
            file.seek(at + half)
            file.write(b"\xff\xff\xff\xff")

    assert_refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_cycle_of_counter_pages(path: Path) -> None:
    """A cycle of counter pages is an error and not an endless loop."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        file.seek(FIRST_COUNTER_PAGE_AT)
        first_page = file.read(8)
        file.seek(int.from_bytes(first_page, "little") + 8)
        file.write(first_page)

    assert_refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_truncated_file(path: Path) -> None:
    """A file that is smaller than its index says is an error."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    os.truncate(path, path.stat().st_size - PAGE_BYTES)

    assert_refused(path, "the file was truncated")


@pytest.mark.parametrize("how", ["root", "cut", "counter page"])
def test_damaged_by_a_power_cut(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is damaged after a reboot is renamed, and the log says so."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"another boot of this machine")
        if how == "cut":
            file.truncate(path.stat().st_size - PAGE_BYTES)
        else:
            for page in range(1, 65):
                file.seek(2048 if how == "counter page" else page * PAGE_BYTES)
                file.write(b"\xff" * 2100)
    torn = path.read_bytes()
    remaining = [Limiter(HostBackend(path)).peek("s", SLOTS_3).usages[0].remaining for _ in range(2)]

    assert remaining == [1_000] * 2
    assert path.with_name("limits.damaged").read_bytes() == torn
    assert "the file was damaged when the machine stopped" in caplog.text


def test_look_at_a_damaged_file(path: Path) -> None:
    """Code that only looks leaves a file that a power cut damaged where it is."""
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"another boot of this machine")
        for page in range(1, 65):
            file.seek(page * PAGE_BYTES)
            file.write(b"\xff" * 2100)

    with looking():
        assert_refused(path, "the file is damaged; stop the processes that use it and delete it")

    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_damaged_file_in_a_read_only_folder(enterable: Path) -> None:
    """A file damaged by a power cut stays in place if it cannot be renamed, and the error says what to do."""
    path = enterable / "limits"
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"another boot of this machine")
        file.seek(2048)
        file.write(b"\xff" * 16)
    enterable.chmod(0o555)
    if not os.getuid():
        os.chown(path, NOBODY, NOBODY)
    with unprivileged():
        assert_refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_two_processes_set_aside_one_file(path: Path) -> None:
    """A process that is late to rename a damaged file leaves the new file in place."""
    HostBackend(path).close()
    torn = MappedFile(str(path), 50)
    path.unlink()
    HostBackend(path).close()
    _set_aside(torn, 50)

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_header_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is on the disk before the file is used, so a power cut cannot leave a foreign file."""
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.pread(fd, SPACE_AT, 0)))
    HostBackend(path).close()

    assert [(content[:8], len(content)) for content in synced] == [(b"AWX host", SPACE_AT)]


def test_intact_file_after_a_reboot(path: Path) -> None:
    """Usage from before a reboot still counts."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"another boot of this machine")

    again = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    assert [usage.remaining for usage in again.peek("s", SLOTS_3).usages] == [999, 3]


@pytest.mark.parametrize("size", [SPACE_AT, SPACE_AT // 2, PAGE_BYTES, 100, 0])
def test_incomplete_file(path: Path, size: int) -> None:
    """A file whose creator was killed is created again."""
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.write(bytes(PAGE_BYTES))
        file.truncate(size)

    assert Limiter(HostBackend(path)).acquire("s", SLOTS_3).allowed


def test_processes_that_start_together(path: Path, start_process: StartProcess) -> None:
    """Processes that start at the same time create one file."""
    processes = [start_process(path) for _ in range(5)]
    allowed = [process.does("acquire", "s") for process in processes]

    assert allowed == [True] * 3 + [False] * 2


def test_file_is_truncated_in_use(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Decisions fail, releases do nothing, and after the file is deleted decisions succeed again."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    held = [limiter.acquire(str(number), SLOTS_3) for number in range(500)]
    os.truncate(path, 3 * PAGE_BYTES)
    for decision in held[:250]:
        limiter.release(decision)
    # If the maintenance thread comes first, the error is what it found when it opened the file.
    with pytest.raises(BackendUnavailable, match=r"the file was truncated|the file is damaged"):
        limiter.acquire("s", SLOTS_3)
    wait_until(lambda: "the host backend does not work" in caplog.text)
    state = limiter.health()["state"]
    path.unlink()
    wait_until(lambda: limiter.acquire("s", SLOTS_3).allowed)

    assert "the file was truncated" in state or "the file is damaged" in state
    assert [limiter.peek(str(number), SLOTS_3).usages[1].remaining for number in (0, 400)] == [3, 2]


def test_file_is_overwritten(path: Path) -> None:
    """After another program overwrites the file, decisions are errors until the file is deleted."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    assert limiter.acquire("s", SLOTS_3).allowed
    path.write_bytes(b"something else" * 100_000)

    def is_refused() -> bool:
        with contextlib.suppress(BackendUnavailable):
            limiter.acquire("s", SLOTS_3)
            return False
        return True

    wait_until(is_refused)
    wait_until(lambda: "not a limits file" in limiter.health()["state"])
    path.unlink()
    wait_until(lambda: limiter.acquire("s", SLOTS_3).allowed)


def test_damaged_record(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Changed bytes in a cell lose the usage of that subject alone, and the log says so."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    plan = Plan.of("p", per_day=10)
    for subject in ("a", "b"):
        limiter.acquire(subject, plan, 7)
    backend: Any = limiter.backend
    ledger = backend._session.ledgers.known["a"]
    with path.open("r+b") as file:
        for half in (0, 256):
            file.seek(ledger.cell_at + half + 40)
            file.write(b"\xff\xff")

    remaining = [limiter.peek(subject, plan).usages[0].remaining for subject in ("a", "b")]
    assert remaining == [10, 3]
    assert limiter.health()["damaged"] == 1
    assert f"{path}: a record in the file is damaged" in caplog.text
