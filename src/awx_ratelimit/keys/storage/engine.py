"""SQLAlchemy engines for SQLite and PostgreSQL, configured so that both keep the same promises.

A store has two connection pools, so that one kind of work cannot starve the other. `reading` uses autocommit and serves
verification. `writing` serves transactions. Every wait is bounded.

A child must not use its parent's connections. SQLite's file locks belong to one process, and a child that closes an
inherited descriptor releases locks that it never held. So no work is under way, and no connection open, during a fork.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from awx_ratelimit.errors import KeyStoreUnavailable, KeyStoreUnusable
from awx_ratelimit.keys.storage import sqlite
from awx_ratelimit.runtime.extras import check_versions, missing_package
from awx_ratelimit.runtime.forks import renew_if_forked

_EXPECTED = "expected a path, sqlite:///path or postgresql://user@host/database"
_DRIVERS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_POOL_SIZE = 5
#: Errors of SQLite that waiting does not repair.
_UNUSABLE: Final = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})


@dataclass(slots=True)
class Engines:
    """The engine for reads and the engine for writes. A database in memory has one engine for both."""

    reading: Engine
    writing: Engine
    _left_in_use: bool = False

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in the connection, and is lost when it closes."""
        return self.reading is self.writing

    def dispose(self) -> None:
        """Close all idle connections, also that of a database in memory."""
        self.reading.dispose()
        self.writing.dispose()

    def close_idle(self) -> None:
        """Close all idle connections before a fork, so that no child inherits them."""
        if not self.in_memory:
            self._left_in_use = self._are_in_use()
            self.dispose()

    def drop_inherited(self) -> None:
        """Stop using the parent's connections, in a child.

        For PostgreSQL they are not closed: the server would end the parent's session. For SQLite they are closed:
        the library would count an inherited connection as a holder of file locks, which no child inherits.
        """
        if self.in_memory:
            return
        in_use = self._left_in_use or self._are_in_use()
        is_sqlite = self.reading.dialect.name == "sqlite"
        self.reading.dispose(close=is_sqlite)
        self.writing.dispose(close=is_sqlite)
        if is_sqlite and in_use:
            sqlite.take_shared_locks(sqlite.path_of(self.reading)[0])

    def _are_in_use(self) -> bool:
        pools = [engine.pool for engine in (self.reading, self.writing)]
        return any(isinstance(pool, QueuePool) and pool.checkedout() for pool in pools)


def parse_url(address: str | PurePath) -> URL:
    """Return the URL of a path or of a URL as text. Raises ValueError."""
    if isinstance(address, PurePath) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        # The original error quotes the URL, which may contain a password.
        raise ValueError(f"the URL of the key store is malformed; {_EXPECTED}") from None
    if "@" in (url.host or ""):
        # After an unquoted @ in a password, the host holds the rest of the password.
        raise ValueError(f"the URL of the key store is malformed; {_EXPECTED}, with each @ in a password as %40")
    if url.get_backend_name() not in _DRIVERS:
        raise ValueError(f"{url.get_backend_name()!r} is not supported by the key store; {_EXPECTED}")
    return url.set(drivername=_DRIVERS[url.get_backend_name()])


def url_for_logs(url: URL) -> str:
    """Return `url` without its password and without its query, which may contain another one."""
    return url.set(query={}).render_as_string(hide_password=True)


def open_engines(url: URL, timeout_ms: int, *, allow_other_users: bool = False) -> Engines:
    """Return the engines of `url`, without connecting.

    No statement, lock or connection takes longer than `timeout_ms` if the server can enforce that. A SQLite file that
    other users own or can write is refused unless `allow_other_users`. Raises ImportError if the driver is missing.
    """
    if url.get_backend_name() == "postgresql":
        return _postgresql(url, timeout_ms)
    options: dict[str, Any] = {"check_same_thread": False}
    if url.database in (None, "", ":memory:"):
        engine = _engine(url, timeout_ms, size=1, options=options, isolation=None)
        sqlite.configure_memory(engine)
        return Engines(engine, engine)
    options["timeout"] = timeout_ms / 1000
    reading = _engine(url, timeout_ms, size=_POOL_SIZE, options=options, isolation="AUTOCOMMIT")
    # SQLite allows one writer at a time. The pool's queue is fairer than SQLite's own polling for the lock.
    writing = _engine(url, timeout_ms, size=1, options=options, isolation=None)
    sqlite.configure_file(reading, writing, allow_other_users=allow_other_users)
    return Engines(reading, writing)


@contextmanager
def database_errors(store: str) -> Iterator[None]:
    """Raise KeyStoreUnavailable or KeyStoreUnusable, with the name of the store, for any error of the database.

    The message contains the database's message, but no parameters of statements.
    """
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = f"the key store {store} does not answer: {' '.join(str(cause).split()) or type(cause).__name__}"
        if getattr(cause, "sqlite_errorname", None) in _UNUSABLE:
            raise KeyStoreUnusable(f"{text}; restore a backup, or open another file") from error
        raise KeyStoreUnavailable(text) from error


def _engine(url: URL, timeout_ms: int, *, size: int, options: Mapping[str, Any], isolation: str | None) -> Engine:
    isolation_option = {} if isolation is None else {"isolation_level": isolation}
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=timeout_ms / 1000,
        connect_args=options,
        # Keeps names and digests out of logs and error messages.
        hide_parameters=True,
        **isolation_option,
    )
    _close_after_dispose(engine)
    return engine


def _close_after_dispose(engine: Engine) -> None:
    """Close a connection that was in use when its pool was disposed of, as soon as it is returned."""

    def on_connect(_: Any, record: Any, *__: Any) -> None:
        # Called before it connects: the pool may be disposed of while the server keeps it waiting.
        record.info["pool"] = engine.pool

    def on_checkin(_: Any, record: Any) -> None:
        if record.info.get("pool", engine.pool) is not engine.pool:
            record.invalidate()

    event.listen(engine, "do_connect", on_connect)
    event.listen(engine, "checkin", on_checkin)


def _postgresql(url: URL, timeout_ms: int) -> Engines:
    check_versions("a key store on PostgreSQL", "postgres", "psycopg")
    try:
        import psycopg  # noqa: F401  # here: a store on SQLite does not need it
    except ImportError as error:
        raise missing_package("a key store on PostgreSQL needs", error, "postgres", install="psycopg") from error
    defaults: dict[str, Any] = {
        "connect_timeout": max(2, -(-timeout_ms // 1000)),
        "application_name": "awx_ratelimit.keys",
        # Detect a server that has vanished (a pulled cable, a failover) within seconds instead of hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": max(timeout_ms, 5_000),
        "options": f"-c statement_timeout={timeout_ms} -c idle_in_transaction_session_timeout={timeout_ms}",
    }
    options = {name: value for name, value in defaults.items() if name not in url.query}
    reading = _engine(url, timeout_ms, size=_POOL_SIZE, options=options, isolation="AUTOCOMMIT")
    # Not the database's default: after a wait for a lock, a transaction must see what the previous one has written.
    writing = _engine(url, timeout_ms, size=_POOL_SIZE, options=options, isolation="READ COMMITTED")
    return Engines(reading, writing)


class ForkGate:
    """A gate that any number of threads may be inside of (``with gate:``). While it is shut, new ones wait.

    Every wait is at most `max_wait_s`: give it the longest time that the work inside may take.
    """

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self.renew()

    def renew(self) -> None:
        """Reset the gate in a child process, where no thread is inside."""
        self._changed = threading.Condition()
        self._inside = 0
        self._open = True

    def __enter__(self) -> None:
        renew_if_forked()
        with self._changed:
            self._changed.wait_for(lambda: self._open, self._max_wait_s)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self) -> None:
        """Stop new threads from entering, and wait until all threads have left."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self._inside, self._max_wait_s)

    def reopen(self) -> None:
        """Let waiting threads enter."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
