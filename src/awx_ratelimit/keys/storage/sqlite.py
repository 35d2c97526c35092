"""What SQLite needs in addition: pragmas, checks of the file's owner, and file locks in child processes."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import OperationalError

from awx_ratelimit.errors import KeyStoreUnusable
from awx_ratelimit.runtime.files import UnusableFile, check_owned, create_owned, warn_about_folder

#: SQLite also trusts the contents of these files. It gives them the mode of the database file.
_SIDE_FILES = ("-journal", "-wal", "-shm")
#: First byte and length of the locks that all connections share: on the database (SHARED_FIRST in SQLite's os.h), and
#: on the shared memory file (UNIX_SHM_DMS in its os_unix.c).
_DATABASE_LOCK: Final = (0x40000002, 510)
_SHARED_MEMORY_LOCK: Final = (128, 1)
_ALLOW_OTHER_USERS: Final = "allow_other_users"
_RETRY_INTERVAL_S = 0.01


def split_allow_other_users(url: URL) -> tuple[URL, bool]:
    """Return the URL of a SQLite store without the option `allow_other_users`, and its value. Raises ValueError."""
    if _ALLOW_OTHER_USERS not in url.query or url.get_backend_name() != "sqlite":
        return url, False
    value = url.query[_ALLOW_OTHER_USERS]
    if value not in ("true", "false"):
        raise ValueError(f"the URL of the key store: {_ALLOW_OTHER_USERS}: expected true or false, got {value!r}")
    return url.difference_update_query([_ALLOW_OTHER_USERS]), value == "true"


def configure_file(reading: Engine, writing: Engine, *, allow_other_users: bool) -> None:
    """Configure the engines of a database in a file. Raises KeyStoreUnusable if its folder does not exist."""
    path, may_create = path_of(reading)
    if path and not (folder := Path(path).parent).is_dir():
        # SQLite would say only that it cannot open the file.
        raise KeyStoreUnusable(f"the key store {path} cannot be used: there is no folder {folder}; create it first")
    if path and not allow_other_users:
        warn_about_folder(path)
    for engine in (reading, writing):
        if path:
            _check_owner_before_connect(engine, path, may_create, allow_other_users)
        event.listen(engine, "connect", _set_pragmas)
    event.listen(writing, "begin", _begin_immediate)


def configure_memory(engine: Engine) -> None:
    """Configure the engine of a database in memory."""
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin_immediate)


def path_of(engine: Engine) -> tuple[str, bool]:
    """Return the path of the database (empty if it is in memory), and whether SQLite may create it."""
    arguments, options = engine.dialect.create_connect_args(engine.url)
    database = str(arguments[0])
    if not options.get("uri") or not database.startswith("file:"):
        return database, True
    parts = urlsplit(database)
    mode = parse_qs(parts.query).get("mode", ["rwc"])[-1]
    path = unquote(parts.path)
    return ("" if mode == "memory" or path == ":memory:" else path), mode == "rwc"


def enable_write_ahead_log(connection: Connection, timeout_ms: int) -> None:
    """Let readers continue during a write. The file remembers this setting. Does nothing for other databases.

    Waits at most `timeout_ms` for other connections to the file.
    """
    until_s = time.monotonic() + timeout_ms / 1000
    while connection.dialect.name == "sqlite":
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            # SQLite's own timeout does not apply to this lock.
            if getattr(error.orig, "sqlite_errorname", None) != "SQLITE_BUSY" or time.monotonic() > until_s:
                raise
            time.sleep(_RETRY_INTERVAL_S)
        else:
            return


def take_shared_locks(path: str) -> None:
    """In a child: take the shared locks that SQLite believes to hold for connections in use at the fork.

    A child inherits no lock. Without these, another process takes itself for the last user of the file and deletes the
    log while this process writes to it. The descriptors stay open: closing one would release all locks of this process
    on its file.
    """
    import fcntl  # here: systems without fork do not have it

    for name, first, size in ((path, *_DATABASE_LOCK), (f"{path}-shm", *_SHARED_MEMORY_LOCK)):
        with suppress(OSError):
            fcntl.lockf(os.open(name, os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB, size, first)


def _check_owner_before_connect(engine: Engine, path: str, may_create: bool, allow_other_users: bool) -> None:
    """Refuse files of other users, and create the database with mode 0600 before SQLite can create it."""

    def on_connect(*_: Any) -> None:
        try:
            for file in (path, *(path + suffix for suffix in _SIDE_FILES)):
                check_owned(file, allow_other_users=allow_other_users)
            if may_create:
                # If this fails, SQLite fails next, with a better message.
                with suppress(OSError):
                    os.close(create_owned(path))
        except UnusableFile as error:
            raise KeyStoreUnusable(f"the key store cannot be used: {file}: {error}") from error

    event.listen(engine, "do_connect", on_connect)


def _set_pragmas(connection: Any, _record: object) -> None:
    # None: `_begin_immediate` begins transactions, not the driver.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # A confirmed revocation must survive a power failure. Commits are rare here, so syncing each one is affordable.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediate(connection: Connection) -> None:
    # Takes the write lock at once: SQLite may refuse it to a transaction that has already read.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
