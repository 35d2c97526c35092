"""Opening a host file, and setting it aside if a power cut damaged it.

A killed process leaves only whole records, but a power cut may not. The file therefore stores in which boot of the
machine it was last found sound. If it is damaged in that same boot, somebody damaged it, and opening it is an error. A
file that a power cut damaged is renamed.
"""

import logging
import os
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any

from awx_ratelimit.backends.host.locks import ByteLock, in_event_loop, remaining_ms, reset_deadline
from awx_ratelimit.backends.host.mapped_file import CREATION_LOCK, FileBeingCreated, FileDamaged, MappedFile
from awx_ratelimit.backends.host.table import Table
from awx_ratelimit.core.validation import describe
from awx_ratelimit.runtime.files import Create, create_owned
from awx_ratelimit.runtime.looking import is_looking

_log = logging.getLogger("awx_ratelimit")
#: Where the header stores the boot id.
_BOOT_ID_AT = 1024
#: How long a constructor outside event loops waits for another process that creates the file.
_START_WAIT_MS = 5_000


@cache
def _boot_id() -> bytes:
    """The id of this boot of the machine; empty if the system has none."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, 64, 0).strip()
    finally:
        os.close(fd)


def absolute_path(path: object) -> str:
    """`path` as text. Raises TypeError or ValueError unless it is an absolute path."""
    if not isinstance(path, str | PurePath):
        raise TypeError(f"path: expected an absolute path such as '/var/lib/app/limits', got {describe(path)}")
    if "://" in (text := str(path)):
        # The error does not show the URL: it may hold a password.
        raise ValueError("path: expected a path, got a URL; write open_backend(url), or pass '/var/lib/app/limits'")
    if not Path(text).is_absolute():
        raise ValueError(f"path: expected an absolute path such as '/var/lib/app/limits', got {text!r}")
    return text


def creator() -> Create:
    """How to create a missing file: for code that only looks, in memory and without a path."""
    return _create_in_memory if is_looking() else create_owned


def _create_in_memory(path: str) -> int:
    fd = os.memfd_create(Path(path).name)
    # As that of a new file.
    os.fchmod(fd, 0o600)
    return fd


def open_table(path: str, wait_ms: int, *, allow_other_users: bool, create: Create) -> Table:
    """The table in the file at `path`. The arguments and the errors are those of MappedFile."""
    until_s = time.monotonic() + wait_ms / 1000
    opened = partial(MappedFile, path, allow_other_users=allow_other_users, create=create)
    file = opened(wait_ms)
    try:
        table = Table(file)
    except FileDamaged:
        if create is _create_in_memory or not _is_from_earlier_boot(file):
            raise
        _set_aside(file, remaining_ms(until_s))
        file = opened(remaining_ms(until_s))
        table = Table(file)
    if _is_from_earlier_boot(file):
        os.pwrite(file.fd, _boot_id(), _BOOT_ID_AT)
    return table


def open_at_start(session: Any) -> None:
    """Open the file of a HostSession that has just begun. Raises BackendUnavailable."""
    if in_event_loop():
        # Never block an event loop that long: the maintenance thread opens the file once it is complete.
        reset_deadline()
        with suppress(FileBeingCreated):
            session.open_in_decision()
    else:
        session.open(_START_WAIT_MS)


def _is_from_earlier_boot(file: MappedFile) -> bool:
    return os.pread(file.fd, len(_boot_id()), _BOOT_ID_AT) != _boot_id()


def _set_aside(file: MappedFile, wait_ms: int) -> None:
    """Rename the file so that a new one can be created at its path, unless another process did so. Closes it.

    If the folder does not allow a rename, the damaged file stays where it is.
    """
    creation_lock = ByteLock(file.fd, CREATION_LOCK)
    with suppress(OSError):
        if creation_lock.wait(wait_ms) and file.is_at_path():
            Path(file.path).rename(f"{file.path}.damaged")
            _log.error(
                "%s: the file was damaged when the machine stopped. It is now %s.damaged; a new file is used, and the "
                "usage recorded in the old one is lost", file.path, file.path,
            )  # fmt: skip
    file.close()
