"""What can be wrong with a host file, at the start and in use: one clear error, and never a dead process."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.host_processes import SLOTS_3, START_MS, StartProcess
from tests.strangers import NOBODY, make_foreign, unprivileged

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Limiter, Plan
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.locks import ByteLock
from awx_ratelimit.backends.host.mapped_file import (
    CREATION_LOCK,
    FIRST_COUNTER_PAGE_AT,
    PAGE_BYTES,
    SPACE_AT,
    MappedFile,
)
from awx_ratelimit.backends.host.recovery import _set_aside
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.errors import BackendMisconfigured
from awx_ratelimit.testing import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "limits"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory. Mounting it needs root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        refuse: Any = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("mounting a small file system needs root, and a container that may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refused(path: Path, why: str) -> None:
    with pytest.raises(BackendMisconfigured) as raised:
        HostBackend(path)
    assert str(raised.value).startswith(f"{path}: "), raised.value
    assert why in str(raised.value)


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


def until(done: Any) -> None:
    """Wait until `done()` is true; the maintenance thread runs once a second."""
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        with contextlib.suppress(BackendUnavailable):
            if done():
                return
        time.sleep(0.02)
    pytest.fail("it did not happen in time")


@pytest.mark.parametrize("path", ["limits", "./limits", "../limits", ""])
def test_relative_path(path: str) -> None:
    """A relative path is an error: it would name another file in each folder."""
    with pytest.raises(ValueError, match="expected an absolute path"):
        HostBackend(path)


def test_path_is_a_folder(tmp_path: Path) -> None:
    """The error names the path and the remedy."""
    refused(tmp_path, "this is a folder; name a file in it")


def test_missing_folder(tmp_path: Path) -> None:
    """The backend creates no folders."""
    refused(tmp_path / "no" / "limits", "its folder does not exist; create it")


def test_path_through_a_file(path: Path) -> None:
    """The error says that a part of the path is not a folder."""
    path.touch()
    refused(path / "limits", "a part of the path is not a folder")


@pytest.mark.parametrize("leads_to", ["file", "nothing", "itself"])
@pytest.mark.parametrize("allow_other_users", [False, True])
def test_symbolic_link(path: Path, tmp_path: Path, leads_to: str, allow_other_users: bool) -> None:
    """A link is an error wherever it leads, and no file is created at its target."""
    target = {"file": tmp_path / "file", "nothing": tmp_path / "nothing", "itself": path}[leads_to]
    if leads_to == "file":
        target.write_bytes(b"")
    path.symlink_to(target)

    with pytest.raises(BackendMisconfigured, match="it is a symbolic link, which is not followed; use the path"):
        HostBackend(path, allow_other_users=allow_other_users)
    assert [file.name for file in tmp_path.iterdir() if file.stat(follow_symlinks=False).st_size == SPACE_AT] == []
    assert not (tmp_path / "nothing").exists()


def test_link_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may be a link, as /var/run is, unless another user made the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    HostBackend(link / "limits").close()
    make_foreign(link, monkeypatch)

    refused(link / "limits", f"{link}, which belongs to user ")


def test_loop_of_links(tmp_path: Path) -> None:
    """The error says that the links form a loop."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    refused(loop / "limits", "the symbolic links in its folder's path form a loop")


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_special_file(path: Path, kind: str) -> None:
    """A pipe, a device and a socket are errors, and opening them does not block."""
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path = Path("/dev/null")
        else:
            listener.bind(str(path))
        refused(path, "No such device or address" if kind == "socket" else "it is not a regular file")


@pytest.mark.parametrize(
    "content", [b"x", b"[plans.starter]\nper_minute = 60\n", bytes(2 * SPACE_AT), b"SQLite" * 99_999]
)
def test_foreign_file(path: Path, content: bytes) -> None:
    """A file of another program is an error, and stays unchanged."""
    path.write_bytes(content)
    refused(path, "this is not a limits file; choose another path")

    assert path.read_bytes() == content


def test_other_version(path: Path) -> None:
    """The error names the version of the file and the version that the library reads."""
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.seek(8)
        file.write((2).to_bytes(2, "little"))

    refused(
        path, "the file has version 2, and this library reads version 1; stop the processes that use it and delete it"
    )


@pytest.mark.parametrize("at", [12, 40, PAGE_BYTES + 20, PAGE_BYTES * 64 + 500])
def test_damaged_header_or_root(path: Path, at: int) -> None:
    """Changed bytes in the header or in a root are an error when the file is opened."""
    limiter = Limiter(HostBackend(path))
    for number in range(3_000):
        limiter.acquire(str(number), SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        for half in (0, PAGE_BYTES // 2):
            file.seek(at + half)
            file.write(b"\xff\xff\xff\xff")

    refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_cycle_of_counter_pages(path: Path) -> None:
    """A cycle of counter pages is an error and not an endless loop."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        file.seek(FIRST_COUNTER_PAGE_AT)
        desk = file.read(8)
        file.seek(int.from_bytes(desk, "little") + 8)
        file.write(desk)

    refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_truncated_file(path: Path) -> None:
    """A file that is smaller than its index says is an error."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    os.truncate(path, path.stat().st_size - PAGE_BYTES)

    refused(path, "the file was truncated")


@pytest.mark.parametrize("how", ["root", "cut", "desk"])
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
                file.seek(2048 if how == "desk" else page * PAGE_BYTES)
                file.write(b"\xff" * 2100)
    torn = path.read_bytes()
    remaining = [Limiter(HostBackend(path)).peek("s", SLOTS_3).usages[0].remaining for _ in range(2)]

    assert remaining == [1_000] * 2
    assert path.with_name("limits.damaged").read_bytes() == torn
    assert "the file was damaged when the machine stopped" in caplog.text


@pytest.fixture
def enterable() -> Iterator[Path]:
    """A folder that other users can enter; pytest's own folders may be closed to them."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


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
        refused(path, "the file is damaged; stop the processes that use it and delete it")


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


def test_missing_permissions(enterable: Path) -> None:
    """Another user's file, and a folder in which this process cannot create one, are errors."""
    file = enterable / "limits"
    HostBackend(file).close()
    if os.getuid():
        file.chmod(0)
        enterable.chmod(0o555)
    with unprivileged():
        refused(file, "this process may not read and write the file")
        refused(enterable / "new", "this process may not read and write the file")


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_new_file_is_private(path: Path, umask: int) -> None:
    """A new file has mode 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        HostBackend(path).close()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600


def test_file_of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user is an error, and nothing is written to it."""
    path.write_bytes(b"")
    make_foreign(path, monkeypatch)

    refused(path, "it belongs to user ")
    refused(path, "choose another path, or pass allow_other_users=True (in a URL: ?allow_other_users=true)")
    assert path.read_bytes() == b""


def test_allow_other_users(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_other_users` accepts a file of another user."""
    path.write_bytes(b"")
    path.chmod(0o660)
    make_foreign(path, monkeypatch)

    assert Limiter(HostBackend(path, allow_other_users=True)).acquire("s", SLOTS_3).allowed


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o602, 0o666, 0o777])
def test_file_that_others_can_write(path: Path, mode: int) -> None:
    """The error names the mode and the command that fixes it; a file that others can only read is accepted."""
    HostBackend(path).close()
    path.chmod(0o644)
    HostBackend(path).close()
    path.chmod(mode)

    refused(path, f"other users can write it (its mode is {mode:04o}); run `chmod 600` on it, or pass allow_other_")
    HostBackend(path, allow_other_users=True).close()


@pytest.mark.parametrize("how", ["another user's", "writable", "link"])
def test_planted_file(path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """If another user puts a file at the path, the backend keeps its own file and logs why."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    planted = path.with_name("planted")
    if how == "link":
        path.rename(path.with_name("moved"))
        planted.symlink_to("moved")
    else:
        HostBackend(planted).close()
        planted.chmod(0o666 if how == "writable" else 0o600)
    if how == "another user's":
        make_foreign(planted, monkeypatch)
    planted.rename(path)
    until(lambda: limiter.health()["state"] != "ok")

    assert limiter.peek("s", SLOTS_3).usages[0].remaining == 999
    assert "the host backend does not work as it should" in caplog.text


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o700, False), (0o755, False), (0o775, False), (0o1777, False), (0o777, True)]
)
def test_warning_about_the_folder(tmp_path: Path, mode: int, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The log warns if other users can replace the file: the folder is writable for them and not sticky."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    HostBackend(folder / "limits").close()

    assert ("other users can remove or replace this file" in caplog.text) is warns


def test_read_only_file_system(tmp_path: Path) -> None:
    """The error names the path and the remedy."""
    with mounted(tmp_path / "small", "ro,size=1m") as folder:
        refused(folder / "limits", "its file system is read-only; choose another path")


def test_full_disk_at_start(tmp_path: Path) -> None:
    """Space is allocated when the file is created; if there is none, that is an error."""
    with mounted(tmp_path / "small", "size=128k") as folder:
        refused(folder / "limits", "there is no space left on the disk; free some, or choose another path")


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


def test_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is an error at the start."""

    def unlockable(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("awx_ratelimit.backends.host.locks._fcntl", lambda *_: -1)
    monkeypatch.setattr("awx_ratelimit.backends.host.locks.fcntl.fcntl", unlockable)

    refused(path, "No locks available")


@pytest.mark.parametrize("how", ["removed", "replaced", "moved", "emptied"])
def test_file_disappears(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Within a second the processes continue in a new file without debts and with all leases, and the log says so."""
    clock = ManualClock(START_MS)
    first, second = (Limiter(HostBackend(path, clock=clock)) for _ in range(2))
    held = [first.acquire("s", SLOTS_3), second.acquire("s", SLOTS_3)]
    if how == "removed":
        path.unlink()
    elif how == "replaced":
        HostBackend(path.with_name("other")).close()
        path.with_name("other").replace(path)
    elif how == "moved":
        path.rename(path.with_name("old"))
    else:
        os.truncate(path, 0)
    until(lambda: [usage.remaining for usage in first.peek("s", SLOTS_3).usages] == [1_000, 1])
    until(lambda: [usage.remaining for usage in second.peek("s", SLOTS_3).usages] == [1_000, 1])
    first.release(held[0])

    assert [usage.remaining for usage in second.peek("s", SLOTS_3).usages] == [1_000, 2]
    assert f"{path}: the file was removed or replaced; the usage recorded in it is lost" in caplog.text


def test_file_is_truncated_in_use(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Decisions fail, releases do nothing, and after the file is deleted decisions succeed again."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    held = [limiter.acquire(str(number), SLOTS_3) for number in range(500)]
    os.truncate(path, 3 * PAGE_BYTES)
    for decision in held[:250]:
        limiter.release(decision)
    with pytest.raises(BackendUnavailable, match="the file was truncated"):
        limiter.acquire("s", SLOTS_3)
    until(lambda: "the host backend does not work" in caplog.text)
    state = limiter.health()["state"]
    path.unlink()
    until(lambda: limiter.acquire("s", SLOTS_3).allowed)

    assert "the file was truncated" in state or "the file is damaged" in state
    assert [limiter.peek(str(number), SLOTS_3).usages[1].remaining for number in (0, 400)] == [3, 2]


def test_creator_of_another_file_is_stopped(path: Path) -> None:
    """While another process is stuck creating a new file, decisions continue in the old one without delay."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    unmade = os.open(path.with_name("unmade"), os.O_RDWR | os.O_CREAT)
    assert not ByteLock(unmade, CREATION_LOCK).try_lock()
    path.with_name("unmade").rename(path)
    waits_s = []

    def is_noticed() -> bool:
        begun_s = time.monotonic()
        limiter.acquire("s", SLOTS_3)
        waits_s.append(time.monotonic() - begun_s)
        return "another process has been creating the file for 40 ms" in limiter.health()["state"]

    until(is_noticed)
    os.close(unmade)
    until(lambda: limiter.peek("s", SLOTS_3).usages[0].remaining == 1_000)

    assert max(waits_s) < 0.5


def test_closed_descriptor(path: Path) -> None:
    """If other code closes the descriptor, decisions fail for up to a second, and the usage stays."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    backend: Any = limiter.backend
    os.close(backend._session.open().file.fd)
    with pytest.raises(BackendUnavailable):
        limiter.acquire("s", SLOTS_3)
    until(lambda: limiter.acquire("s", SLOTS_3).allowed)

    # Until the maintenance thread runs, the slot held through the old descriptor may count twice.
    until(lambda: [usage.remaining for usage in limiter.peek("s", SLOTS_3).usages] == [998, 1])


def test_release_after_the_file_was_replaced(path: Path) -> None:
    """The release frees the slot even if the old descriptor number belongs to a larger file by now."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    held = [limiter.acquire("s", SLOTS_3) for _ in range(2)]
    backend: Any = limiter.backend
    old = backend._session.open()
    number = old.file.fd
    path.unlink()
    backend._session._switch_file(old)
    larger = os.open(path.with_name("larger"), os.O_RDWR | os.O_CREAT)
    os.truncate(larger, 10_000_000)
    os.dup2(larger, number)
    limiter.backend.release(held[0])
    for descriptor in {larger, number}:
        os.close(descriptor)

    assert limiter.acquire("s", SLOTS_3).held == 2


def test_no_thread_can_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a maintenance thread there are still decisions, and the health says what is wrong until one can start."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))

    def failing(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("awx_ratelimit.backends.host.session.PeriodicThread.start", failing)
        allowed = limiter.acquire("s", SLOTS_3).allowed
    state = limiter.health()["state"]
    limiter.acquire("another", SLOTS_3)
    until(lambda: limiter.health()["state"] == "ok")

    assert allowed is True
    assert state == "can't start new thread"


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

    until(is_refused)
    until(lambda: "not a limits file" in limiter.health()["state"])
    path.unlink()
    until(lambda: limiter.acquire("s", SLOTS_3).allowed)


def test_damaged_record(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Changed bytes in a cell lose the usage of that subject alone, and the log says so."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    plan = Plan.of("p", per_day=10)
    for subject in ("a", "b"):
        limiter.acquire(subject, plan, 7)
    backend: Any = limiter.backend
    ledger = backend._session._ledgers["a"]
    with path.open("r+b") as file:
        for half in (0, 256):
            file.seek(ledger.cell_at + half + 40)
            file.write(b"\xff\xff")

    remaining = [limiter.peek(subject, plan).usages[0].remaining for subject in ("a", "b")]
    assert remaining == [10, 3]
    assert limiter.health()["damaged"] == 1
    assert f"{path}: a record in the file is damaged" in caplog.text


@pytest.mark.parametrize(("on_outage", "allowed"), [("local", [True, False]), ("open", [True, True])])
def test_guard_decides_without_the_file(path: Path, on_outage: Any, allowed: list[bool]) -> None:
    """While the file is unusable, a GuardedBackend decides by its `on_outage`; later the file decides again."""
    host = HostBackend(path, clock=ManualClock(START_MS))
    guarded = Limiter(GuardedBackend(host, on_outage=on_outage, expected_workers=4))
    asynchronous = AsyncLimiter(AsyncGuardedBackend(host, on_outage=on_outage, expected_workers=4))
    plan = Plan.of("p", per_day=4)
    before = guarded.acquire("s", plan)
    os.truncate(path, PAGE_BYTES)
    decisions = [guarded.acquire("s", plan).allowed for _ in range(2)]
    awaited = [asyncio.run(asynchronous.acquire("s", plan)).allowed for _ in range(2)]
    path.unlink()
    until(lambda: host.acquire("s", plan, 1).allowed)

    assert before.allowed is True
    assert decisions == allowed
    assert awaited == allowed


def test_guard_that_fails_closed(path: Path) -> None:
    """With on_outage="closed" a claim raises BackendUnavailable, which a gate turns into a 503."""
    limiter = Limiter(GuardedBackend(HostBackend(path, clock=ManualClock(START_MS)), on_outage="closed"))
    os.truncate(path, PAGE_BYTES)

    with pytest.raises(BackendUnavailable, match="on_outage='closed' refuses claims"):
        limiter.acquire("s", SLOTS_3)
