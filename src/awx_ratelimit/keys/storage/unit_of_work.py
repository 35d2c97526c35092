"""`Act`: one change of an account and its keys, as one transaction: what is changed, the audit row and the change row.

The account's row is locked first, so that acts on one account follow one another: a cap is counted and used in one
step, and of two rotations one comes second and sees it.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from awx_ratelimit.keys.models import Account, ApiKey
from awx_ratelimit.keys.storage.rows import account_of, json_of, key_of
from awx_ratelimit.keys.storage.schema import ACCOUNTS, CHANGES, EVENTS, KEYS

#: What is believed of a key is believed for 30 s at most: whoever has not looked for an hour forgets it all anyway.
_CHANGES_KEPT_MS = 3_600_000
#: A number that no other program locks: the first 8 bytes of the SHA-256 of "awx_ratelimit.keys changes", signed.
_LOCK: Final = -400_811_059_011_867_166


def locked(connection: Connection, account_id: str) -> Account | None:
    """The account, which no other act touches until the transaction ends; None where there is none."""
    row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == account_id).with_for_update()).one_or_none()
    return None if row is None else account_of(row)


class Act:
    """What may be done within a transaction of `KeyStore.act`. `account` is as it was found; None: there is none."""

    def __init__(
        self, connection: Connection, account_id: str, account: Account | None, now_ms: int, actor: str | None
    ) -> None:
        self._connection = connection
        self._account_id = account_id
        self.account = account
        self.now_ms = now_ms
        self._actor = actor
        #: Whether keys of the account are to be looked up anew.
        self.announced = False

    def add_account(self, plan: str | None, overrides: Mapping[str, Any] | None, max_keys: int) -> bool:
        """Write the account's row, active; False where another act was faster."""
        row = {"id": self._account_id, "status": "active", "created_at_ms": self.now_ms}
        row |= {"plan": plan, "overrides": _json_or_none(overrides), "max_keys": max_keys}
        try:
            self._connection.execute(insert(ACCOUNTS).values(row))
        except IntegrityError:
            return False
        return True

    def change_account(self, column: str, value: object) -> None:
        """Write one column of the account's row."""
        written = _json_or_none(value) if column == "overrides" else value
        self._connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.id == self._account_id).values({column: written}))

    def present_account(self) -> Account:
        """The account as it is now, within this act."""
        account = locked(self._connection, self._account_id)
        assert account is not None  # its row is locked, or was written here
        return account

    def key(self, key_id: str) -> ApiKey | None:
        """A key of the account that is not revoked."""
        row = self._connection.execute(select(KEYS).where(self._is(key_id))).one_or_none()
        return None if row is None else key_of(row, self.now_ms)

    def has_had(self, key_id: str) -> bool:
        """Whether the account has a key of that id, or had one that is revoked."""
        known: Select[int] = select(func.count()).where(KEYS.c.account_id == self._account_id, KEYS.c.id == key_id)
        return self._connection.execute(known).scalar_one() > 0

    def add_key(self, **columns: Any) -> ApiKey:
        """Write a key's row; the key."""
        row = {"account_id": self._account_id, "created_at_ms": self.now_ms, "created_by": self._actor, **columns}
        self._connection.execute(insert(KEYS).values(row))
        return self.present_key(columns["id"])

    def change_key(self, key_id: str, **columns: Any) -> None:
        """Write `columns` of a key that is not revoked."""
        self._connection.execute(update(KEYS).where(self._is(key_id)).values(columns))

    def life_of_key_ms(self, key_id: str) -> int | None:
        """How long a key lives by itself, from when it was made; None: for ever."""
        life_ms: Select[int | None] = select(KEYS.c.expires_at_ms - KEYS.c.created_at_ms).where(self._is(key_id))
        return self._connection.execute(life_ms).scalar_one()

    def present_key(self, key_id: str) -> ApiKey:
        """A key that was found or written in this act, as it is now."""
        key = self.key(key_id)
        assert key is not None  # the account's row is locked, so nobody else has revoked it
        return key

    def active_keys(self) -> int:
        """How many keys count against the account's cap: neither revoked nor expired nor rotated."""
        return self._count(KEYS.c.replaced_by.is_(None))

    def others_in_grace(self, key_id: str) -> int:
        """How many rotated keys but this one are still accepted."""
        return self._count((KEYS.c.grace_ends_at_ms > self.now_ms) & (KEYS.c.id != key_id))

    def record(self, action: str, key_id: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        """Write an audit row."""
        row = {
            "account_id": self._account_id,
            "key_id": key_id,
            "action": action,
            "actor": self._actor,
            "at_ms": self.now_ms,
            "details": json_of(details or {}),
        }
        self._connection.execute(insert(EVENTS).values(row))

    def announce(self) -> None:
        """Have the account's keys looked up anew, here and in other processes."""
        self.announced = True

    def finish(self) -> None:
        """What is to be written last, before the commit."""
        if not self.announced:
            return
        if self._connection.dialect.name == "postgresql":
            # Held to the commit: so numbers become visible in their order, and nobody looks past one that is to come.
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        self._connection.execute(insert(CHANGES).values(account_id=self._account_id, at_ms=self.now_ms))
        self._connection.execute(delete(CHANGES).where(CHANGES.c.at_ms < self.now_ms - _CHANGES_KEPT_MS))

    def _is(self, key_id: str) -> ColumnElement[bool]:
        return (KEYS.c.account_id == self._account_id) & (KEYS.c.id == key_id) & KEYS.c.revoked_at_ms.is_(None)

    def _count(self, which: ColumnElement[bool]) -> int:
        alive = KEYS.c.revoked_at_ms.is_(None) & (KEYS.c.expires_at_ms.is_(None) | (KEYS.c.expires_at_ms > self.now_ms))
        counted: Select[int] = select(func.count()).where(KEYS.c.account_id == self._account_id, alive, which)
        return self._connection.execute(counted).scalar_one()


def _json_or_none(value: Any) -> str | None:
    return None if value is None else json_of(value)
