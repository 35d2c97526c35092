"""Opens files without trusting the path, and reads TOML files.

An opened file is no link, device or pipe, and unless allowed no file that another user can change.

In a folder that others can write, such as /tmp or /dev/shm, anybody can create a file or a link at the path that this
process is about to open. So files are checked after they are opened, by their descriptor. New files have the mode 0600
for any umask. Files that are only read may be reached through links, because mounted configuration is.
"""

import errno
import logging
import os
import stat
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from awx_ratelimit.errors import InvalidLimit

_log = logging.getLogger("awx_ratelimit")
#: Creates the file at a path; returns its descriptor.
Create = Callable[[str], int]
_MODE = 0o600
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
#: Windows has no such owners, and its links need privileges.
_HAS_OWNERS = os.name == "posix"
#: O_NONBLOCK: opening a pipe must not wait for its other end.
_SAFELY = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_ATTEMPTS = 10
#: The largest TOML file. A request may have to read it; 4 MiB hold some 50,000 overrides.
_MAX_TOML_BYTES = 4_194_304
_OPT_IN = "pass allow_other_users=True (in a URL: ?allow_other_users=true) if you trust them"


class UnusableFile(OSError):
    """The file at a path must not be used. The message says why and what to do, without the path."""


def create_owned(path: str, flags: int = os.O_RDWR) -> int:
    """Create the file at `path` with mode 0600 and open it. Raises FileExistsError if the path exists."""
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | _SAFELY | _NO_LINK, _MODE)
    if _HAS_OWNERS:
        # The umask or the file system may have changed the mode. If it cannot be set, `_check` notices.
        with suppress(OSError):
            os.fchmod(fd, _MODE)
    return fd


def open_owned(path: str, *, allow_other_users: bool = False, create: Create = create_owned) -> int:
    """Open the regular file at `path` for reading and writing. `create` creates and opens a missing one.

    Raises UnusableFile for a link, for anything but a regular file and, unless `allow_other_users`, for a file that
    another user owns or can write. Raises OSError if it cannot be opened.
    """
    if not allow_other_users:
        check_links(Path(path).parent)
    fd = _opened(path, create)
    try:
        _check(os.fstat(fd), allow_other_users=allow_other_users)
    except UnusableFile:
        os.close(fd)
        raise
    return fd


def check_owned(path: str, *, allow_other_users: bool = False) -> None:
    """Raise UnusableFile as `open_owned` does. A missing file is fine.

    It does not open the file: closing a second descriptor of a database drops SQLite's locks.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        if not allow_other_users:
            check_links(Path(path).parent)
        _check(os.lstat(path), allow_other_users=allow_other_users)


def check_links(path: Path) -> None:
    """Raise UnusableFile if a part of `path` is a link that another user created."""
    path = path.absolute()
    for part in (path, *path.parents):
        try:
            # Not `part.lstat()`: detectors of blocking calls in event loops refuse `os.stat`.
            status = os.lstat(part)
        except (FileNotFoundError, NotADirectoryError):
            # Opening the path raises the error, with the path.
            continue
        if _HAS_OWNERS and stat.S_ISLNK(status.st_mode) and not _is_ours(status.st_uid):
            raise _link(f"{part}, which belongs to user {_name(status.st_uid)},")


def warn_about_folder(path: str) -> None:
    """Log a warning if other users can remove or replace the file at `path`, even if they cannot write it."""
    try:
        # With `/.`, so that the status is not that of a link to the folder.
        status = os.lstat(f"{Path(path).absolute().parent}/.")
    except OSError:
        return
    if not _HAS_OWNERS or (_is_ours(status.st_uid) and not status.st_mode & stat.S_IWOTH):
        return
    if status.st_mode & stat.S_ISVTX and _is_ours(status.st_uid):
        return
    _log.warning(
        "%s: other users can remove or replace this file, because they can write its folder; use a folder that only "
        "this user can write", path,
    )  # fmt: skip


def read_regular_file(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The content of the regular file at `path`. The path may contain links.

    Raises UnusableFile for a pipe, a device and a file of more than `max_bytes`, and OSError if it cannot be read.
    """
    # Before it is opened: opening a device can have effects.
    _check_regular(os.stat(path))  # noqa: PTH116
    with open(os.open(path, os.O_RDONLY | _SAFELY), "rb") as file:  # noqa: PTH123
        _check_regular(os.fstat(file.fileno()))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UnusableFile(f"it has more than {max_bytes} bytes; name a smaller file")
    return content


def _opened(path: str, create: Create) -> int:
    # No O_CREAT for an existing file: Linux may refuse it for another user's file, without a useful error.
    for _ in range(_ATTEMPTS):
        try:
            return os.open(path, os.O_RDWR | _SAFELY | _NO_LINK)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return create(path)
        except OSError as error:
            if error.errno == errno.ELOOP and Path(path).is_symlink():
                raise _link("it") from None
            raise
    raise UnusableFile("other processes keep creating and removing it; choose another path")


def _check(status: os.stat_result, *, allow_other_users: bool) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _link("it")
    _check_regular(status)
    if allow_other_users or not _HAS_OWNERS:
        return
    if not _is_ours(status.st_uid):
        raise UnusableFile(
            f"it belongs to user {_name(status.st_uid)}, and this process runs as user {_name(os.geteuid())}; choose "
            f"another path, or {_OPT_IN}"
        )
    if status.st_mode & _WRITABLE_BY_OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise UnusableFile(f"other users can write it (its mode is {mode:04o}); run `chmod 600` on it, or {_OPT_IN}")


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = (
            "a folder; name a file in it" if stat.S_ISDIR(status.st_mode) else "not a regular file; choose another path"
        )
        raise UnusableFile(f"it is {kind}")


def _link(what: str) -> UnusableFile:
    return UnusableFile(f"{what} is a symbolic link, which is not followed; use the path that it points to")


def _is_ours(user_id: int) -> bool:
    return user_id in (0, os.geteuid())


def _name(user_id: int) -> str:
    try:
        import pwd

        return f"{pwd.getpwuid(user_id).pw_name} ({user_id})"
    except (ImportError, KeyError):
        return str(user_id)


def read_toml(path: str | PurePath) -> dict[str, Any]:
    """The content of the TOML file at `path`, a regular file of at most 4 MiB.

    Pipes and devices are never opened. Raises InvalidLimit, with the path, for a file that cannot be read or parsed.
    """
    try:
        return tomllib.loads(read_regular_file(path, _MAX_TOML_BYTES).decode())
    except UnusableFile as error:
        raise InvalidLimit(f"{path}: cannot be read: {error}") from error
    except OSError as error:
        raise InvalidLimit(f"{path}: cannot be read: {error.strerror}; use the path of a readable TOML file") from error
    except (ValueError, RecursionError) as error:
        raise InvalidLimit(f"{path}: is not TOML: {error}") from error
