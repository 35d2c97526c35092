"""`KeyStore`: accounts, API keys and their audit trail in SQLite or PostgreSQL. It stores digests, never keys.

Every statement names its account, so no id of another account ever reaches a row. The exceptions are the look-up by
digest, which finds the account, and the operator's queries over all accounts. If the database does not answer, the
calls raise KeyStoreUnavailable.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import PurePath
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast
from weakref import WeakMethod

from sqlalchemy import Connection, bindparam, update
from sqlalchemy.exc import DBAPIError

from awx_ratelimit.core.validation import check_bool, type_name
from awx_ratelimit.keys import validation
from awx_ratelimit.keys.scanner import FINDER, KeyFinder
from awx_ratelimit.keys.storage.engine import Engines, ForkGate, database_errors, open_engines, parse_url, url_for_logs
from awx_ratelimit.keys.storage.migrations import MIGRATIONS, migrate, schema_version
from awx_ratelimit.keys.storage.schema import KEYS
from awx_ratelimit.keys.storage.sqlite import enable_write_ahead_log, split_allow_other_users
from awx_ratelimit.keys.storage.unit_of_work import UnitOfWork, lock_account
from awx_ratelimit.runtime.clock import Clock, WallClock
from awx_ratelimit.runtime.forks import register_after_fork, register_around_fork

_log = logging.getLogger("awx_ratelimit.keys")
_P = ParamSpec("_P")
_T = TypeVar("_T")
Listener = Callable[[str], None]
#: Begins a change of the account with this id, for an actor.
Change: TypeAlias = Callable[[str, str | None], AbstractContextManager[UnitOfWork]]
_LAST_USE_BATCH = 500
_UPDATE_LAST_USED = (
    update(KEYS)
    .where(KEYS.c.account_id == bindparam("account"), KEYS.c.id == bindparam("key"))
    # Never backwards: another process may have written a later use.
    .where(KEYS.c.last_used_at_ms.is_(None) | (KEYS.c.last_used_at_ms < bindparam("at_ms")))
    .values(last_used_at_ms=bindparam("at_ms"))
)


class LastUse(NamedTuple):
    """The last use of a key, in milliseconds since the epoch."""

    key_id: str
    account_id: str
    at_ms: int


def checked_store(store: Any, user: str) -> "KeyStore":
    """Return `store` if it is an open store. Raises TypeError for a class, a path and everything else."""
    if isinstance(store, type) or not hasattr(store, "migrate"):
        raise TypeError(f"store: expected a KeyStore, got {type_name(store)}; write {user}(KeyStore.open('keys.db'))")
    return cast("KeyStore", store)


class KeyStore:
    """Accounts, keys, the audit trail and the log of changes. Safe with threads and forks. Call `close` at the end."""

    def __init__(self, engines: Engines, name: str, timeout_ms: int) -> None:
        self._engines = engines
        self._name = name
        self._timeout_ms = timeout_ms
        self._fork_gate = ForkGate(timeout_ms / 1000)
        self._listeners: list[WeakMethod[Listener]] = []
        register_around_fork(self._pause, self._fork_gate.reopen)
        register_after_fork(self._renew)

    @classmethod
    def open(
        cls, address: str | PurePath = "keys.db", *, timeout_ms: int = 10_000, allow_other_users: bool = False
    ) -> "KeyStore":
        """Open the store at `address`: a path, ``sqlite:///path``, or ``postgresql://user@host/database``.

        The first process creates the tables, or migrates them to the newest version. No statement and no lock takes
        longer than `timeout_ms`. Raises KeyStoreUnavailable if the database cannot be reached, KeyStoreUnusable if it
        is not a key store, has a newer version, or is to be in a folder that does not exist, ValueError for another
        kind of URL, and ImportError with the line to install if the driver is missing.

        A new SQLite file gets mode 0600. Symbolic links are not followed. A file that another user owns or can write
        is refused, because that user could add keys; `allow_other_users`, or ``?allow_other_users=true`` in the URL,
        accepts it.
        """
        if not isinstance(address, str | PurePath):
            raise TypeError(
                f"address: expected a path or a URL such as postgresql://user@host/database, got {type_name(address)}"
            )
        if address == "":
            # The driver would open a database in memory, which is lost with the process.
            raise ValueError("address: expected a path or a URL such as postgresql://user@host/database, got ''")
        check_bool(allow_other_users, "allow_other_users")
        url, allowed_by_url = split_allow_other_users(parse_url(address))
        engines = open_engines(url, timeout_ms, allow_other_users=allow_other_users or allowed_by_url)
        store = cls(engines, url_for_logs(url), timeout_ms)
        try:
            store.migrate()
        except BaseException:
            store.close()
            raise
        # A server that forks in C later, without calling Python's hooks, must not share a connection with its children.
        store._engines.close_idle()
        return store

    def migrate(self) -> None:
        """Migrate the tables to the newest version, if they are older. Several processes may call it at once."""
        reading, writing = self._engines.reading, self._engines.writing
        with database_errors(self._name), self._fork_gate:
            with reading.connect() as connection:
                if schema_version(connection) == len(MIGRATIONS):
                    return
                if not self._engines.in_memory:
                    enable_write_ahead_log(connection, self._timeout_ms)
            with writing.begin() as connection:
                migrate(connection, WallClock.now_ms())

    def query(self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `query`, a function of the module `queries`, and return its result. Raises KeyStoreUnavailable."""

        def run() -> _T:
            with self._engines.reading.connect() as connection:
                return query(connection, *args, **kwargs)

        with database_errors(self._name), self._fork_gate:
            return _retried(run)

    @contextmanager
    def unit_of_work(
        self, account_id: str, actor: str | None = None, *, now_ms: int, finder: KeyFinder = FINDER
    ) -> Iterator[UnitOfWork]:
        """Change one account and its keys in one transaction, which the end of the block commits.

        Raises InvalidKeyRequest for an invalid id or actor, and KeyStoreUnavailable. If the database does not answer
        a commit, the change may or may not have happened.
        """
        account_id, actor = validation.account_id(account_id, finder), validation.optional_name(actor, "actor", finder)
        with database_errors(self._name), self._fork_gate:
            connection, work = _retried(lambda: self._begin(account_id, now_ms, actor))
            try:
                yield work
                work.finish()
                connection.commit()
            finally:
                # This rolls back what is not committed.
                connection.close()
                if work.change_announced:
                    self._notify_listeners(account_id)

    def changes(self, clock: Clock, finder: KeyFinder) -> Change:
        """Return `unit_of_work` at the time of `clock`, in which no field may have a key that `finder` finds."""
        return lambda account_id, actor: self.unit_of_work(account_id, actor, now_ms=clock.now_ms(), finder=finder)

    def mark_used(self, uses: Iterable[LastUse]) -> None:
        """Write when keys were last used, unless a later use is stored. Raises KeyStoreUnavailable."""
        # Sorted, so that two processes that write the same keys cannot deadlock.
        rows = ({"key": use.key_id, "account": use.account_id, "at_ms": use.at_ms} for use in sorted(uses))
        while batch := list(islice(rows, _LAST_USE_BATCH)):
            with database_errors(self._name), self._fork_gate, self._engines.writing.begin() as connection:
                connection.execute(_UPDATE_LAST_USED, batch)

    def write(self, work: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` in a transaction and return its result. Raises KeyStoreUnavailable.

        `work` may run twice, and the database may not answer a commit that happens. So it must be safe to repeat.
        """

        def run() -> _T:
            with self._engines.writing.begin() as connection:
                return work(connection, *args, **kwargs)

        with database_errors(self._name), self._fork_gate:
            return _retried(run)

    def subscribe(self, listener: Listener) -> None:
        """Call the bound method `listener` with the account id after each announced change, while its object lives."""
        self._listeners = [*(known for known in self._listeners if known() is not None), WeakMethod(listener)]

    def close(self) -> None:
        """Close the connections. You may call it twice; a store that is used again reconnects."""
        self._engines.dispose()

    def __repr__(self) -> str:
        return f"KeyStore({self._name!r})"

    def _begin(self, account_id: str, now_ms: int, actor: str | None) -> tuple[Connection, UnitOfWork]:
        connection = self._engines.writing.connect()
        try:
            account = lock_account(connection, account_id, now_ms)
            return connection, UnitOfWork(connection, account_id, account, now_ms, actor)
        except BaseException:
            connection.close()
            raise

    def _notify_listeners(self, account_id: str) -> None:
        for known in self._listeners:
            listener = known()
            try:
                if listener is not None:
                    listener(account_id)
            except Exception:
                _log.exception("a listener of the key store failed")

    def _pause(self) -> None:
        self._fork_gate.shut()
        self._engines.close_idle()

    def _renew(self) -> None:
        self._fork_gate.renew()
        self._engines.drop_inherited()


def _retried(act: Callable[[], _T]) -> _T:
    """Return the result of `act`. Repeat it once if its connection was lost because the database has restarted.

    `act` must change nothing before it succeeds.
    """
    try:
        return act()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        # The pool has new connections now.
        return act()
