"""The connections of a key store: what SQLite and PostgreSQL need to be told so that both keep the same promises.

Two pools, so that a rush of one kind of work cannot starve the other: `reading` answers each statement by itself and
serves verification; `writing` gives one transaction at a time the right to write. No connection waits without end.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import QueuePool

from awx_ratelimit.keys.storage.sqlite_files import hold_inherited_locks, own_file
from awx_ratelimit.runtime.extras import INSTALL, check_versions
from awx_ratelimit.runtime.files import warn_about_folder

_ALLOWED = "allowed are a path, sqlite:///path and postgresql://user@host/database"
_DRIVERS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_CONNECTIONS = 5
#: The option of a URL of SQLite that is ours.
_OTHER_USERS: Final = "allow_other_users"
_AGAIN_S = 0.01


@dataclass(slots=True)
class Engines:
    """Where to read and where to write; for a database in memory they are one."""

    reading: Engine
    writing: Engine
    _left_in_use: bool = False

    @property
    def in_memory(self) -> bool:
        """Whether the connection is the database: whoever lets go of it has lost all."""
        return self.reading is self.writing

    def dispose(self) -> None:
        """Close every connection that nobody is using."""
        self.reading.dispose()
        self.writing.dispose()

    def forget(self) -> None:
        """Before a fork: close every connection that nobody is using, so that no child inherits it."""
        if not self.in_memory:
            self._left_in_use = self._are_in_use()
            self.dispose()

    def forget_inherited(self) -> None:
        """In a child: use no connection of the parent's.

        A server would take the end of an inherited connection for the end of the parent's session. SQLite would count
        an inherited connection as one that holds file locks, which no child inherits; so it is closed.
        """
        if self.in_memory:
            return
        in_use = self._left_in_use or self._are_in_use()
        close = self.reading.dialect.name == "sqlite"
        self.reading.dispose(close=close)
        self.writing.dispose(close=close)
        if close and in_use:
            hold_inherited_locks(_path_of(self.reading)[0])

    def _are_in_use(self) -> bool:
        pools = [engine.pool for engine in (self.reading, self.writing)]
        return any(isinstance(pool, QueuePool) and pool.checkedout() for pool in pools)


def url_of(address: str | PurePath) -> URL:
    """The URL of a path or of a text that is one. Raises ValueError that says what is allowed."""
    if isinstance(address, PurePath) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        # Not its cause: that error quotes the URL, and a password with it.
        raise ValueError(f"the key store's URL cannot be read; {_ALLOWED}") from None
    if url.get_backend_name() not in _DRIVERS:
        raise ValueError(f"there is no key store on {url.get_backend_name()!r}; {_ALLOWED}")
    return url.set(drivername=_DRIVERS[url.get_backend_name()])


def shown_url(url: URL) -> str:
    """`url` as it may stand in a log: without its password, and without the parameters, which may have another."""
    return url.set(query={}).render_as_string(hide_password=True)


def other_users_of(url: URL) -> tuple[URL, bool]:
    """`url` without the option `allow_other_users`, which only SQLite has, and its value. Raises ValueError."""
    if _OTHER_USERS not in url.query or url.get_backend_name() != "sqlite":
        return url, False
    value = url.query[_OTHER_USERS]
    if value not in ("true", "false"):
        raise ValueError(f"the key store's URL has {_OTHER_USERS}={value!r}; allowed are true and false")
    return url.difference_update_query([_OTHER_USERS]), value == "true"


def engines_for(url: URL, timeout_ms: int, *, allow_other_users: bool = False) -> Engines:
    """The two engines of `url`; nothing is connected yet.

    No statement, lock or connection is waited for longer than `timeout_ms` where the server can be told so. A database
    file of SQLite that other users own or can write is refused, unless `allow_other_users`.
    Raises ImportError that names the line to install for a driver that is missing.
    """
    if url.get_backend_name() == "postgresql":
        return _postgresql(url, timeout_ms)
    if url.database in (None, "", ":memory:"):
        return _memory(url, timeout_ms)
    return _file(url, timeout_ms, allow_other_users)


def _engine(
    url: URL, timeout_ms: int, *, connections: int, arguments: Mapping[str, Any], isolation: str | None
) -> Engine:
    options: dict[str, Any] = {} if isolation is None else {"isolation_level": isolation}
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout_ms / 1000,
        connect_args=arguments,
        # Names and digests are nobody's business in a log, nor in the text of an error.
        hide_parameters=True,
        **options,
    )
    _close_what_comes_late(engine)
    return engine


def _close_what_comes_late(engine: Engine) -> None:
    """A connection that was in use when its pool was left is closed when it comes back: nobody else would do it."""

    def connected(_: Any, record: Any) -> None:
        record.info["pool"] = engine.pool

    def came_back(_: Any, record: Any) -> None:
        if record.info.get("pool", engine.pool) is not engine.pool:
            record.invalidate()

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkin", came_back)


def _file(url: URL, timeout_ms: int, allow_other_users: bool) -> Engines:
    arguments = {"timeout": timeout_ms / 1000, "check_same_thread": False}
    reading = _engine(url, timeout_ms, connections=_CONNECTIONS, arguments=arguments, isolation="AUTOCOMMIT")
    # One: SQLite has one writer, and a queue of threads here is fairer than its waiting in steps.
    writing = _engine(url, timeout_ms, connections=1, arguments=arguments, isolation=None)
    path, may_create = _path_of(reading)
    if path and not allow_other_users:
        warn_about_folder(path)
    for engine in (reading, writing):
        if path:
            event.listen(engine, "do_connect", own_file(path, may_create, allow_other_users))
        event.listen(engine, "connect", _sqlite_connected)
    event.listen(writing, "begin", _begin_immediate)
    return Engines(reading, writing)


def _path_of(engine: Engine) -> tuple[str, bool]:
    """The path of a database, empty for one in memory; and whether SQLite would create it."""
    arguments, options = engine.dialect.create_connect_args(engine.url)
    database = str(arguments[0])
    if not options.get("uri") or not database.startswith("file:"):
        return database, True
    parts = urlsplit(database)
    mode = parse_qs(parts.query).get("mode", ["rwc"])[-1]
    path = unquote(parts.path)
    return ("" if mode == "memory" or path == ":memory:" else path), mode == "rwc"


def _memory(url: URL, timeout_ms: int) -> Engines:
    """One connection, which is the database: whoever comes second waits."""
    arguments = {"check_same_thread": False}
    engine = _engine(url, timeout_ms, connections=1, arguments=arguments, isolation=None)
    event.listen(engine, "connect", _sqlite_connected)
    event.listen(engine, "begin", _begin_immediate)
    return Engines(engine, engine)


def _sqlite_connected(connection: Any, _record: object) -> None:
    # None: transactions begin where we say so, not where the driver guesses.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # A revocation that was confirmed is not lost with the power: written through, as each commit here is rare.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediate(connection: Connection) -> None:
    # The right to write is taken at once: a transaction that has read and only then writes may be refused.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def write_ahead(connection: Connection, timeout_ms: int) -> None:
    """Let readers of an SQLite file go on while one writes; a property of the file, so that it is said once.

    Others at work in the file are waited for, `timeout_ms` at most.
    """
    until_s = time.monotonic() + timeout_ms / 1000
    while connection.dialect.name == "sqlite":
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            # For this lock alone SQLite does not wait by itself, whatever its own timeout.
            if getattr(error.orig, "sqlite_errorname", None) != "SQLITE_BUSY" or time.monotonic() > until_s:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


def _postgresql(url: URL, timeout_ms: int) -> Engines:
    check_versions("a key store on PostgreSQL", "postgres", "psycopg")
    try:
        import psycopg  # noqa: F401  # on first use: whoever keeps keys in SQLite does not need it
    except ImportError as error:
        raise ImportError(f"a key store on PostgreSQL needs psycopg; {INSTALL.format('postgres')}") from error
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, -(-timeout_ms // 1000)),
        "application_name": "awx_ratelimit.keys",
        # A server that is gone without a word (a cable, a failover) is noticed within seconds, not hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": max(timeout_ms, 5_000),
        "options": f"-c statement_timeout={timeout_ms} -c idle_in_transaction_session_timeout={timeout_ms}",
    }
    given = {name: value for name, value in arguments.items() if name not in url.query}
    reading = _engine(url, timeout_ms, connections=_CONNECTIONS, arguments=given, isolation="AUTOCOMMIT")
    # Whatever the database's default is: who has waited for a lock must see what the one before has written.
    writing = _engine(url, timeout_ms, connections=_CONNECTIONS, arguments=given, isolation="READ COMMITTED")
    return Engines(reading, writing)
