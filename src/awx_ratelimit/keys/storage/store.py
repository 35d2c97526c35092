"""`KeyStore`: accounts and keys in SQLite or PostgreSQL, where no key is: digests alone.

Every statement names the account it is about, so that no id of another's ever reaches a row; but for the look-up of a
digest, which finds out the account, and what is asked about all of them. A store that does not answer is a
KeyStoreUnavailable.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePath
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast
from weakref import WeakMethod

from sqlalchemy import Connection, bindparam, update
from sqlalchemy.exc import DBAPIError

from awx_ratelimit.core.validation import check_bool, type_name
from awx_ratelimit.keys.clock import WallClock
from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.engine import Engines, engines_for, other_users_of, shown_url, url_of, write_ahead
from awx_ratelimit.keys.storage.errors import answered
from awx_ratelimit.keys.storage.fork_gate import Turnstile
from awx_ratelimit.keys.storage.migrations import MIGRATIONS, migrate, version_of
from awx_ratelimit.keys.storage.rows import KnownKey
from awx_ratelimit.keys.storage.schema import KEYS
from awx_ratelimit.keys.storage.unit_of_work import Act, locked
from awx_ratelimit.runtime.forks import register_after_fork, register_around_fork

_log = logging.getLogger("awx_ratelimit.keys")
_P = ParamSpec("_P")
_T = TypeVar("_T")
Listener = Callable[[str], None]
_USES_AT_ONCE = 500
_USED = (
    update(KEYS)
    .where(KEYS.c.account_id == bindparam("account"), KEYS.c.id == bindparam("key"))
    # Never backwards: another process may have written a later use.
    .where(KEYS.c.last_used_at_ms.is_(None) | (KEYS.c.last_used_at_ms < bindparam("at_ms")))
    .values(last_used_at_ms=bindparam("at_ms"))
)


class Use(NamedTuple):
    """The last use of a key, in milliseconds since the epoch."""

    key_id: str
    account_id: str
    at_ms: int


def checked_store(store: Any, user: str) -> "KeyStore":
    """`store`, if `user` can use it. Raises TypeError for a class, a path and anything else that has to be opened."""
    if isinstance(store, type) or not hasattr(store, "migrate"):
        raise TypeError(f"store is {type_name(store)}; write {user}(KeyStore.open('keys.db'))")
    return cast("KeyStore", store)


class KeyStore:
    """Accounts, keys, their audit trail and their changes. Safe for threads and across forks; `close` it in the end."""

    def __init__(self, engines: Engines, name: str, timeout_ms: int) -> None:
        self._engines = engines
        self._name = name
        self._timeout_ms = timeout_ms
        self._turnstile = Turnstile(timeout_ms / 1000)
        self._listeners: list[WeakMethod[Listener]] = []
        register_around_fork(self._pause, self._turnstile.reopen)
        register_after_fork(self._renew)

    @classmethod
    def open(
        cls, address: str | PurePath = "keys.db", *, timeout_ms: int = 10_000, allow_other_users: bool = False
    ) -> "KeyStore":
        """The store at `address`: a path or ``sqlite:///path``, or ``postgresql://user@host/database``.

        Its tables are made, or brought to the newest version, by whichever process comes first. No statement and no
        lock is waited for longer than `timeout_ms`. Raises KeyStoreUnavailable where it cannot be reached,
        KeyStoreUnusable where it is no key store or one of a newer version, ValueError for another kind of URL, and
        ImportError that names the line to install for a driver that is missing.

        A new file of SQLite has mode 0600. Links are not followed, and a file that another user owns or can write is
        refused, because that user could add keys. `allow_other_users`, or ``?allow_other_users=true`` in the URL,
        accepts it.
        """
        if not isinstance(address, str | PurePath):
            raise TypeError(
                f"address is {type_name(address)}; use a path or a URL such as postgresql://user@host/database"
            )
        if address == "":
            # To the driver this is a database in memory, which ends with the process.
            raise ValueError("address is ''; use a path or a URL such as postgresql://user@host/database")
        check_bool(allow_other_users, "allow_other_users")
        url, allowed_by_url = other_users_of(url_of(address))
        engines = engines_for(url, timeout_ms, allow_other_users=allow_other_users or allowed_by_url)
        store = cls(engines, shown_url(url), timeout_ms)
        try:
            store.migrate()
        except BaseException:
            store.close()
            raise
        # A server that forks in C after this finds no connection that its children would share.
        store._engines.forget()
        return store

    def migrate(self) -> None:
        """Bring the tables to the newest version. Nothing to do is no error; harmless in several processes at once."""
        reading, writing = self._engines.reading, self._engines.writing
        with answered(self._name), self._turnstile:
            with reading.connect() as connection:
                if version_of(connection) == len(MIGRATIONS):
                    return
                if not self._engines.in_memory:
                    write_ahead(connection, self._timeout_ms)
            with writing.begin() as connection:
                migrate(connection, WallClock().now_ms())

    def ask(self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `query`, one of `queries`, answers. Raises KeyStoreUnavailable."""
        with answered(self._name), self._turnstile:
            try:
                with self._engines.reading.connect() as connection:
                    return query(connection, *args, **kwargs)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The database was started anew since this connection was used last: now there are new ones.
                with self._engines.reading.connect() as connection:
                    return query(connection, *args, **kwargs)

    def look_up(self, digest: bytes) -> KnownKey | None:
        """The key of this digest; None where there is none. Raises KeyStoreUnavailable."""
        return self.ask(queries.known_key, digest)

    def news(self, position: int | None) -> queries.News:
        """Whose keys have changed since `position`. Raises KeyStoreUnavailable."""
        return self.ask(queries.news, position)

    def key(self, account_id: str, key_id: str, now_ms: int) -> ApiKey | None:
        """A key of the account that is not revoked. Raises KeyStoreUnavailable."""
        return self.ask(queries.key, account_id, key_id, now_ms)

    def account(self, account_id: str) -> Account | None:
        """The account of this id. Raises KeyStoreUnavailable."""
        return self.ask(queries.account, account_id)

    @contextmanager
    def act(self, account_id: str, *, now_ms: int, actor: str | None = None) -> Iterator[Act]:
        """One transaction on one account: all that is done inside is written in the end, or nothing.

        Raises KeyStoreUnavailable; whether a commit that got no answer was carried out is not known then.
        """
        with answered(self._name), self._turnstile:
            connection, act = self._begun(account_id, now_ms, actor)
            try:
                yield act
                act.finish()
                connection.commit()
            finally:
                # Nothing that was not committed stays.
                connection.close()
                if act.announced:
                    self._tell(account_id)

    def mark_used(self, uses: Iterable[Use]) -> None:
        """Write the last uses of keys, where they are later than what is written. Raises KeyStoreUnavailable."""
        # In order, so that two processes that write the same keys wait for one another and never for each other.
        rows = ({"key": use.key_id, "account": use.account_id, "at_ms": use.at_ms} for use in sorted(uses))
        while some := list(islice(rows, _USES_AT_ONCE)):
            with answered(self._name), self._turnstile, self._engines.writing.begin() as connection:
                connection.execute(_USED, some)

    def subscribe(self, listener: Listener) -> None:
        """Call the bound method `listener` with the account of each act that announced it, while its object lives."""
        self._listeners = [*(known for known in self._listeners if known() is not None), WeakMethod(listener)]

    def close(self) -> None:
        """Let go of the connections. Harmless twice; a store that is used again connects again."""
        self._engines.dispose()

    def __repr__(self) -> str:
        return f"KeyStore({self._name!r})"

    def _begun(self, account_id: str, now_ms: int, actor: str | None) -> tuple[Connection, Act]:
        """A transaction that holds the account's row."""
        try:
            return self._locking(account_id, now_ms, actor)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # Nothing was done yet: see `ask`.
            return self._locking(account_id, now_ms, actor)

    def _locking(self, account_id: str, now_ms: int, actor: str | None) -> tuple[Connection, Act]:
        connection = self._engines.writing.connect()
        try:
            return connection, Act(connection, account_id, locked(connection, account_id), now_ms, actor)
        except BaseException:
            connection.close()
            raise

    def _tell(self, account_id: str) -> None:
        for known in self._listeners:
            listener = known()
            try:
                if listener is not None:
                    listener(account_id)
            except Exception:
                _log.exception("a listener of the key store failed")

    def _pause(self) -> None:
        self._turnstile.shut()
        self._engines.forget()

    def _renew(self) -> None:
        self._turnstile.renew()
        self._engines.forget_inherited()
