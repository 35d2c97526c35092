"""The files of an SQLite database: whose they are, and the locks on them that a fork loses."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from awx_ratelimit.errors import KeyStoreUnusable
from awx_ratelimit.runtime.files import UnusableFile, check_owned, create_owned

#: SQLite believes what lies in these, too; it gives them the mode of the database.
_BESIDE = ("-journal", "-wal", "-shm")
#: First byte and size of SQLite's locks that every connection shares: of a database (SHARED_FIRST in its os.h), and of
#: the shared memory beside it (UNIX_SHM_DMS in its os_unix.c).
_SHARED_BYTES: Final = (0x40000002, 510)
_MEMORY_BYTES: Final = (128, 1)


def own_file(path: str, may_create: bool, allow_other_users: bool) -> Callable[..., None]:
    """A listener that creates the database with mode 0600 before SQLite can, and refuses a file of another user."""

    def about_to_connect(*_: Any) -> None:
        try:
            for file in (path, *(path + suffix for suffix in _BESIDE)):
                check_owned(file, allow_other_users=allow_other_users)
            if may_create:
                # SQLite says why it cannot be created.
                with suppress(OSError):
                    os.close(create_owned(path))
        except UnusableFile as error:
            raise KeyStoreUnusable(f"the key store is not used: {file}: {error}") from error

    return about_to_connect


def hold_inherited_locks(path: str) -> None:
    """In a child: hold the shared locks that SQLite here believes to hold for the connections in use at the fork.

    No child inherits a lock. Without them another process takes itself for the last one, and deletes the log while
    this one writes to it. The descriptors stay open: closing one would end every lock of this process on its file.
    """
    import fcntl  # here: systems without forks do not have it

    for name, first, size in ((path, *_SHARED_BYTES), (f"{path}-shm", *_MEMORY_BYTES)):
        with suppress(OSError):
            fcntl.lockf(os.open(name, os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB, size, first)
