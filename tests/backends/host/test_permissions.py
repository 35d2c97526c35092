"""Files and folders that another user owns or can write."""

import os
from pathlib import Path

import pytest
from tests.backends.host.files import assert_refused
from tests.backends.host.limiters import wait_until
from tests.host_processes import SLOTS_3, START_MS
from tests.strangers import make_foreign, unprivileged

from awx_ratelimit import Limiter
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock


def test_missing_permissions(enterable: Path) -> None:
    """Another user's file, and a folder in which this process cannot create one, are errors."""
    file = enterable / "limits"
    HostBackend(file).close()
    if os.getuid():
        file.chmod(0)
        enterable.chmod(0o555)
    with unprivileged():
        assert_refused(file, "this process may not read and write the file")
        assert_refused(enterable / "new", "this process may not read and write the file")


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

    assert_refused(path, "it belongs to user ")
    assert_refused(path, "choose another path, or pass allow_other_users=True (in a URL: ?allow_other_users=true)")
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

    assert_refused(
        path, f"other users can write it (its mode is {mode:04o}); run `chmod 600` on it, or pass allow_other_"
    )
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
    wait_until(lambda: limiter.health()["state"] != "ok")

    assert limiter.peek("s", SLOTS_3).usages[0].remaining == 999
    assert "the host backend does not work properly" in caplog.text


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
