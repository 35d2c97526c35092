"""`UnitOfWork`: one change to an account and its keys, in one transaction with its audit row and change row.

It locks the account's row first, so changes to one account follow one another. Counting the keys against the cap and
adding one is therefore one step, and of two concurrent rotations the second sees the first.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.keys.storage.schema import ACCOUNTS, CHANGES, EVENTS, KEYS, account_from, json_from, key_from

#: Verifiers cache a key for 30 s at most and poll twice a second, so an hour of changes is plenty.
_CHANGES_KEPT_MS = 3_600_000
_JSON: Final = ("overrides", "temporary_overrides")
#: An advisory lock of our own: the first 8 bytes of the SHA-256 of "awx_ratelimit.keys changes", signed.
_CHANGES_LOCK: Final = -400_811_059_011_867_166


def lock_account(connection: Connection, account_id: str, now_ms: int) -> Account | None:
    """Lock the account's row until the transaction ends, and return the account, or None."""
    row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == account_id).with_for_update()).one_or_none()
    return None if row is None else account_from(row, now_ms)


class UnitOfWork:
    """The operations inside `KeyStore.unit_of_work`. `account` is the account at the start; None: it does not exist."""

    def __init__(
        self, connection: Connection, account_id: str, account: Account | None, now_ms: int, actor: str | None
    ) -> None:
        self._connection = connection
        self._account_id = account_id
        self.account = account
        self.now_ms = now_ms
        self._actor = actor
        self.change_announced = False

    def add_account(self, plan: str | None, overrides: Mapping[str, Any] | None, max_keys: int) -> bool:
        """Insert the account's row, as active. Return False if another transaction was faster."""
        row = {"id": self._account_id, "status": "active", "created_at_ms": self.now_ms}
        row |= {"plan": plan, "overrides": json_from(overrides), "max_keys": max_keys}
        try:
            self._connection.execute(insert(ACCOUNTS).values(row))
        except IntegrityError:
            return False
        return True

    def change_account(self, **columns: Any) -> None:
        """Update columns of the account's row. Overrides are mappings or None."""
        stored = {name: json_from(value) if name in _JSON else value for name, value in columns.items()}
        self._connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.id == self._account_id).values(stored))

    def current_account(self) -> Account:
        """Return the account with the changes of this transaction."""
        account = lock_account(self._connection, self._account_id, self.now_ms)
        assert account is not None  # this transaction has locked or inserted its row
        return account

    def key(self, key_id: str) -> ApiKey | None:
        """Return an unrevoked key of the account, or None."""
        row = self._connection.execute(select(KEYS).where(self._is_unrevoked(key_id))).one_or_none()
        return None if row is None else key_from(row, self.now_ms)

    def has_had_key(self, key_id: str) -> bool:
        """Return whether the account has a key with this id, revoked or not."""
        count: Select[int] = select(func.count()).where(KEYS.c.account_id == self._account_id, KEYS.c.id == key_id)
        return self._connection.execute(count).scalar_one() > 0

    def add_key(self, **columns: Any) -> ApiKey:
        """Insert a key's row and return the key."""
        row = {"account_id": self._account_id, "created_at_ms": self.now_ms, "created_by": self._actor, **columns}
        self._connection.execute(insert(KEYS).values(row))
        return self.current_key(columns["id"])

    def change_key(self, key_id: str, **columns: Any) -> None:
        """Update columns of an unrevoked key."""
        self._connection.execute(update(KEYS).where(self._is_unrevoked(key_id)).values(columns))

    def lifetime_ms(self, key_id: str) -> int | None:
        """Return the time between the key's creation and its expiry, without a grace period. None: no expiry."""
        life_ms: Select[int | None] = select(KEYS.c.expires_at_ms - KEYS.c.created_at_ms).where(
            self._is_unrevoked(key_id)
        )
        return self._connection.execute(life_ms).scalar_one()

    def current_key(self, key_id: str) -> ApiKey:
        """Return a key that exists, with the changes of this transaction."""
        key = self.key(key_id)
        assert key is not None  # the account's row is locked, so nobody else can revoke the key
        return key

    def count_active_keys(self) -> int:
        """Return how many keys count against the cap: neither revoked nor expired nor rotated."""
        return self._count(KEYS.c.replaced_by.is_(None))

    def count_others_in_grace(self, key_id: str) -> int:
        """Return how many rotated keys other than this one are still accepted."""
        return self._count((KEYS.c.grace_ends_at_ms > self.now_ms) & (KEYS.c.id != key_id))

    def record(self, action: str, key_id: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        """Insert an audit row."""
        row = {
            "account_id": self._account_id,
            "key_id": key_id,
            "action": action,
            "actor": self._actor,
            "at_ms": self.now_ms,
            "details": json_from(details or {}),
        }
        self._connection.execute(insert(EVENTS).values(row))

    def announce_change(self) -> None:
        """Make every verifier, in all processes, look the account's keys up again after the commit."""
        self.change_announced = True

    def finish(self) -> None:
        """Insert the change row. This must be the last step before the commit."""
        if not self.change_announced:
            return
        if self._connection.dialect.name == "postgresql":
            # PostgreSQL holds this lock until the commit. So numbers become visible in their order, and no verifier
            # reads past a number that is not committed yet.
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CHANGES_LOCK})
        self._connection.execute(insert(CHANGES).values(account_id=self._account_id, at_ms=self.now_ms))
        self._connection.execute(delete(CHANGES).where(CHANGES.c.at_ms < self.now_ms - _CHANGES_KEPT_MS))

    def _is_unrevoked(self, key_id: str) -> ColumnElement[bool]:
        return (KEYS.c.account_id == self._account_id) & (KEYS.c.id == key_id) & KEYS.c.revoked_at_ms.is_(None)

    def _count(self, condition: ColumnElement[bool]) -> int:
        alive = KEYS.c.revoked_at_ms.is_(None) & (KEYS.c.expires_at_ms.is_(None) | (KEYS.c.expires_at_ms > self.now_ms))
        count: Select[int] = select(func.count()).where(KEYS.c.account_id == self._account_id, alive, condition)
        return self._connection.execute(count).scalar_one()
