"""Paths that cannot hold a host file: one clear error at the start."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.backends.host.files import assert_refused
from tests.strangers import make_foreign

from awx_ratelimit import Limiter, Plan
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.host.mapped_file import (
    SPACE_AT,
)
from awx_ratelimit.errors import BackendMisconfigured
from awx_ratelimit.runtime.looking import looking


@pytest.mark.parametrize("path", ["limits", "./limits", "../limits", ""])
def test_relative_path(path: str) -> None:
    """A relative path is an error: it would name another file in each folder."""
    with pytest.raises(ValueError, match="expected an absolute path"):
        HostBackend(path)


def test_path_is_a_folder(tmp_path: Path) -> None:
    """The error names the path and the remedy."""
    assert_refused(tmp_path, "this is a folder; name a file in it")


def test_missing_folder(tmp_path: Path) -> None:
    """The backend creates no folders."""
    assert_refused(tmp_path / "no" / "limits", "its folder does not exist; create it")


def test_path_through_a_file(path: Path) -> None:
    """The error says that a part of the path is not a folder."""
    path.touch()
    assert_refused(path / "limits", "a part of the path is not a folder")


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

    assert_refused(link / "limits", f"{link}, which belongs to user ")


def test_loop_of_links(tmp_path: Path) -> None:
    """The error says that the links form a loop."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert_refused(loop / "limits", "the symbolic links in its folder's path form a loop")


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
        assert_refused(path, "No such device or address" if kind == "socket" else "it is not a regular file")


@pytest.mark.parametrize(
    "content", [b"x", b"[plans.starter]\nper_minute = 60\n", bytes(2 * SPACE_AT), b"SQLite" * 99_999]
)
def test_foreign_file(path: Path, content: bytes) -> None:
    """A file of another program is an error, and stays unchanged."""
    path.write_bytes(content)
    assert_refused(path, "this is not a limits file; choose another path")

    assert path.read_bytes() == content


def test_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is an error at the start."""

    def unlockable(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("awx_ratelimit.backends.host.locks._fcntl", lambda *_: -1)
    monkeypatch.setattr("awx_ratelimit.backends.host.locks.fcntl.fcntl", unlockable)

    assert_refused(path, "No locks available")


def test_look_at_a_missing_file(path: Path) -> None:
    """Code that only looks creates no file: it sees unused limits, also in a forked child."""
    plan = Plan.of("p", per_minute=2)
    with looking():
        limiter = Limiter(HostBackend(path))
    remaining = limiter.peek("s", plan).usages[0].remaining
    child = os.fork()
    if not child:
        os._exit(0 if limiter.peek("s", plan).allowed else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    limiter.close()

    assert (remaining, status) == (2, 0)
    assert [*path.parent.iterdir()] == []
