"""What can be wrong with the file of a host, at the start and while it is in use: one clear error, never a death."""

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
    """A file that is not there yet."""
    return tmp_path / "limits"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; it takes root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        refuse: Any = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("mounting a small file system takes root, and a container that may mount")
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
    """The subjects that were let in before there was no more room."""
    known: list[str] = []
    with pytest.raises(BackendUnavailable, match=why):
        fill(limiter, known)
    return known


def fill(limiter: Limiter, known: list[str]) -> None:
    for number in range(5_000):
        limiter.acquire(str(number), SLOTS_3)
        known.append(str(number))


def until(done: Any) -> None:
    """Until the thread has looked."""
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        with contextlib.suppress(BackendUnavailable):
            if done():
                return
        time.sleep(0.02)
    pytest.fail("the thread did not look")


@pytest.mark.parametrize("path", ["limits", "./limits", "../limits", ""])
def test_a_relative_path_is_refused(path: str) -> None:
    """A path that is another file for a process in another folder is an error that says so."""
    with pytest.raises(ValueError, match="expected an absolute path"):
        HostBackend(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """The error names the path and what to do."""
    refused(tmp_path, "this is a folder; name a file in it")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Folders are not made."""
    refused(tmp_path / "no" / "limits", "its folder does not exist; create it")


def test_a_path_through_a_file_is_refused(path: Path) -> None:
    """A part of the path that is no folder is named as the reason."""
    path.touch()
    refused(path / "limits", "a part of the path is not a folder")


@pytest.mark.parametrize("leads_to", ["file", "nothing", "itself"])
@pytest.mark.parametrize("allow_other_users", [False, True])
def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path, leads_to: str, allow_other_users: bool) -> None:
    """A link is an error, whatever it leads to, and nothing is created where it leads."""
    target = {"file": tmp_path / "file", "nothing": tmp_path / "nothing", "itself": path}[leads_to]
    if leads_to == "file":
        target.write_bytes(b"")
    path.symlink_to(target)

    with pytest.raises(BackendMisconfigured, match="it is a symbolic link, and is not followed; name the path"):
        HostBackend(path, allow_other_users=allow_other_users)
    assert [file.name for file in tmp_path.iterdir() if file.stat(follow_symlinks=False).st_size == SPACE_AT] == []
    assert not (tmp_path / "nothing").exists()


def test_a_link_in_the_folder_is_followed_if_this_user_or_root_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may be a link, as /var/run is; a link that another user made is an error."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    HostBackend(link / "limits").close()
    make_foreign(link, monkeypatch)

    refused(link / "limits", f"{link}, which belongs to user ")


def test_links_of_the_folder_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    """A loop in the path is named as the reason."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    refused(loop / "limits", "the symbolic links in its folder's path form a loop")


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_regular_file_is_refused(path: Path, kind: str) -> None:
    """A pipe, a device and a socket are errors, and nobody waits for them."""
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
def test_a_file_of_something_else_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    """A file that is none of ours is an error, and not a byte of it changes."""
    path.write_bytes(content)
    refused(path, "this is not a limits file; choose another path")

    assert path.read_bytes() == content


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    """The error says which version it is, and which one is read."""
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.seek(8)
        file.write((2).to_bytes(2, "little"))

    refused(
        path, "the file has version 2, and this library reads version 1; stop the processes that use it and delete it"
    )


@pytest.mark.parametrize("at", [12, 40, PAGE_BYTES + 20, PAGE_BYTES * 64 + 500])
def test_a_damaged_file_is_refused(path: Path, at: int) -> None:
    """Bytes that changed in the header or in a root are found at the start."""
    limiter = Limiter(HostBackend(path))
    for number in range(3_000):
        limiter.acquire(str(number), SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        for half in (0, PAGE_BYTES // 2):
            file.seek(at + half)
            file.write(b"\xff\xff\xff\xff")

    refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_desks_that_lead_to_one_another_are_refused(path: Path) -> None:
    """Nobody walks in a circle."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        file.seek(FIRST_COUNTER_PAGE_AT)
        desk = file.read(8)
        file.seek(int.from_bytes(desk, "little") + 8)
        file.write(desk)

    refused(path, "the file is damaged; stop the processes that use it and delete it")


def test_a_file_that_was_cut_short_is_refused(path: Path) -> None:
    """What a root leads to has to be there."""
    limiter = Limiter(HostBackend(path))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    os.truncate(path, path.stat().st_size - PAGE_BYTES)

    refused(path, "the file was truncated")


@pytest.mark.parametrize("how", ["root", "cut", "desk"])
def test_a_file_that_a_power_cut_has_torn_is_set_aside(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """After the machine has started anew nobody has to remove anything: the log says what became of the old file."""
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


def test_who_comes_late_sets_aside_no_file_that_another_has_made(path: Path) -> None:
    """Of several that find a torn file at a start, one moves it away; what it made instead stays."""
    HostBackend(path).close()
    torn = MappedFile(str(path), 50)
    path.unlink()
    HostBackend(path).close()
    _set_aside(torn, 50)

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_whose_file_it_is_lies_on_the_disk_before_it_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut just after a first start leaves no file that is of something else."""
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.pread(fd, SPACE_AT, 0)))
    HostBackend(path).close()

    assert [(content[:8], len(content)) for content in synced] == [(b"AWX host", SPACE_AT)]


def test_a_sound_file_of_another_boot_goes_on(path: Path) -> None:
    """What was used before the machine started anew is used still."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    limiter.close()
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"another boot of this machine")

    again = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    assert [usage.remaining for usage in again.peek("s", SLOTS_3).usages] == [999, 3]


@pytest.mark.parametrize("size", [SPACE_AT, SPACE_AT // 2, PAGE_BYTES, 100, 0])
def test_a_file_that_nobody_finished_is_made(path: Path, size: int) -> None:
    """What somebody who was killed while making the file has left is made by the next."""
    HostBackend(path).close()
    with path.open("r+b") as file:
        file.write(bytes(PAGE_BYTES))
        file.truncate(size)

    assert Limiter(HostBackend(path)).acquire("s", SLOTS_3).allowed


def test_many_that_start_at_once_make_one_file(path: Path, start_process: StartProcess) -> None:
    """Processes that begin together find each other."""
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
def test_it_is_made_for_its_user_alone(path: Path, umask: int) -> None:
    """Nobody else may read or write what is used, whatever the umask."""
    before = os.umask(umask)
    try:
        HostBackend(path).close()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made it could change what was used, or truncate it; nothing is written into it."""
    path.write_bytes(b"")
    make_foreign(path, monkeypatch)

    refused(path, "it belongs to user ")
    refused(path, "choose another path, or pass allow_other_users=True (in a URL: ?allow_other_users=true)")
    assert path.read_bytes() == b""


def test_a_file_of_another_user_can_be_allowed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of several users who trust each other say so."""
    path.write_bytes(b"")
    path.chmod(0o660)
    make_foreign(path, monkeypatch)

    assert Limiter(HostBackend(path, allow_other_users=True)).acquire("s", SLOTS_3).allowed


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o602, 0o666, 0o777])
def test_a_file_that_others_can_write_is_refused(path: Path, mode: int) -> None:
    """The error names the mode and the command that mends it; reading alone is no reason."""
    HostBackend(path).close()
    path.chmod(0o644)
    HostBackend(path).close()
    path.chmod(mode)

    refused(path, f"other users can write it (its mode is {mode:04o}); run `chmod 600` on it, or pass allow_other_")
    HostBackend(path, allow_other_users=True).close()


@pytest.mark.parametrize("how", ["another user's", "writable", "link"])
def test_a_file_that_another_user_puts_there_meanwhile_is_not_used(
    path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All go on in the file that they have opened, and the log says why."""
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
def test_a_folder_in_which_others_can_replace_the_file_is_a_warning(
    tmp_path: Path, mode: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so unless the folder is sticky: then only the owner of a file can remove it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    HostBackend(folder / "limits").close()

    assert ("other users can remove or replace this file" in caplog.text) is warns


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """The error names the path and what to do."""
    with mounted(tmp_path / "small", "ro,size=1m") as folder:
        refused(folder / "limits", "its file system is read-only; choose another path")


def test_a_disk_that_is_full_at_the_start_is_refused(tmp_path: Path) -> None:
    """Room is taken before it is used; where there is none the error says so."""
    with mounted(tmp_path / "small", "size=128k") as folder:
        refused(folder / "limits", "there is no space left on the disk; free some, or choose another path")


def test_a_disk_that_becomes_full_refuses_new_subjects_alone(tmp_path: Path) -> None:
    """Who is known goes on, others get no decision, nobody dies; and when there is room again all goes on."""
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


def test_a_copy_with_holes_is_no_death_on_a_full_disk(tmp_path: Path, start_process: StartProcess) -> None:
    """Copies leave out what is zero: the room for that is taken at the start, and nobody dies for want of it later."""
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


def test_a_limit_on_the_size_of_files_is_an_error(path: Path) -> None:
    """Where the process may not write larger files, new subjects get no decision."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20 * PAGE_BYTES, before[1]))
    try:
        filled(limiter, "the file may not grow")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert limiter.acquire("s", SLOTS_3).allowed


def test_a_file_system_without_locks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be locked, the error says so at the start."""

    def unlockable(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("awx_ratelimit.backends.host.locks._fcntl", lambda *_: -1)
    monkeypatch.setattr("awx_ratelimit.backends.host.locks.fcntl.fcntl", unlockable)

    refused(path, "No locks available")


@pytest.mark.parametrize("how", ["removed", "replaced", "moved", "emptied"])
def test_a_file_that_is_taken_away_is_made_anew_and_leases_are_kept(
    path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Within a second all goes on in a new file: nothing is owed, what is held is held, and the log says so."""
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


def test_a_file_that_is_cut_short_is_an_error_and_no_death(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Decisions fail, releases do nothing, and after somebody has removed it all goes on."""
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


def test_nobody_waits_for_who_was_stopped_while_making_another_file(path: Path) -> None:
    """All go on in the file that was moved away; and who has none is told so at once, but by a start."""
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


def test_a_descriptor_that_somebody_closed_is_an_error_and_heals(path: Path) -> None:
    """Who closes all that is open takes the file away for a second, and what was used stays."""
    limiter = Limiter(HostBackend(path, clock=ManualClock(START_MS)))
    limiter.acquire("s", SLOTS_3)
    backend: Any = limiter.backend
    os.close(backend._session.open().file.fd)
    with pytest.raises(BackendUnavailable):
        limiter.acquire("s", SLOTS_3)
    until(lambda: limiter.acquire("s", SLOTS_3).allowed)

    # Until the thread has looked, the slot of the old descriptor may count twice.
    until(lambda: [usage.remaining for usage in limiter.peek("s", SLOTS_3).usages] == [998, 1])


def test_a_release_after_the_file_was_replaced_raises_nothing(path: Path) -> None:
    """Also where the number of the old descriptor is a larger file's by now: the slot is free, there and here."""
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


def test_without_another_thread_there_are_decisions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the log and the health say so, until one can."""
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


def test_a_file_that_is_overwritten_by_another_thing_is_an_error(path: Path) -> None:
    """What is no file of ours any more decides nothing, until it is removed."""
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


def test_a_damaged_subject_is_forgotten_and_the_log_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that changed in a cell lose what that subject used, and nothing else."""
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
def test_a_guard_decides_while_the_file_cannot(path: Path, on_outage: Any, allowed: list[bool]) -> None:
    """With a file that was cut short each claim gets what the guard was told; later the file decides again."""
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


def test_a_guard_that_lets_nobody_in_says_so(path: Path) -> None:
    """A guard that is to be closed raises, and a gate makes a 503 of it."""
    limiter = Limiter(GuardedBackend(HostBackend(path, clock=ManualClock(START_MS)), on_outage="closed"))
    os.truncate(path, PAGE_BYTES)

    with pytest.raises(BackendUnavailable, match="nothing is let in without it"):
        limiter.acquire("s", SLOTS_3)
