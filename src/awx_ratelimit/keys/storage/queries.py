"""Read-only queries: one statement each, two for a page and its total."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, select

from awx_ratelimit.keys.models import Account, ApiKey, Event, Page
from awx_ratelimit.keys.storage.schema import (
    ACCOUNTS,
    CHANGES,
    EVENTS,
    KEYS,
    KeyRecord,
    account_from,
    event_from,
    key_from,
    key_record_from,
)

_Item = TypeVar("_Item")
KeysBefore: TypeAlias = Callable[[Connection, str, int, int], tuple[ApiKey, ...]]
_MAX_CHANGES = 1_000
_RECORDS: Final = select(
    KEYS,
    *(ACCOUNTS.c[name] for name in ("plan", "overrides", "status", "temporary_overrides", "temporary_until_ms")),
).join(ACCOUNTS, ACCOUNTS.c.id == KEYS.c.account_id)
_LOOK_UP: Final = _RECORDS.where(KEYS.c.key_hash == bindparam("digest"))
_CHANGES_FROM: Final = (
    select(CHANGES.c.number, CHANGES.c.account_id)
    .where(CHANGES.c.number >= bindparam("position"))
    .order_by(CHANGES.c.number)
    .limit(_MAX_CHANGES)
)
_NEWEST: Final = select(func.max(CHANGES.c.number))


class Changes(NamedTuple):
    """The accounts that have changed since a position (None: possibly all), and the position now."""

    position: int
    accounts: frozenset[str] | None


def key_record(connection: Connection, digest: bytes) -> KeyRecord | None:
    """Return the key with this digest, also a revoked or expired one. Unknown digests cost the same statement."""
    row = connection.execute(_LOOK_UP, {"digest": digest}).one_or_none()
    return None if row is None else key_record_from(row)


def key_record_of(connection: Connection, key_id: str, account_id: str | None) -> KeyRecord | None:
    """Return the key with this id, also a revoked or expired one, of the account or (None) of any."""
    chosen = _RECORDS.where(KEYS.c.id == key_id)
    if account_id is not None:
        chosen = chosen.where(KEYS.c.account_id == account_id)
    row = connection.execute(chosen).one_or_none()
    return None if row is None else key_record_from(row)


def changes_since(connection: Connection, position: int | None) -> Changes:
    """Return what has changed since `position`; None means that the caller knows nothing yet.

    The query reads the change at `position` again. If that row is gone, then nobody polled for long, or this is a
    different database (a restored copy, a promoted replica). In both cases all accounts may have changed.
    """
    if position is not None:
        rows = connection.execute(_CHANGES_FROM, {"position": position}).all()
        is_known = position == 0 or (len(rows) > 0 and rows[0].number == position)
        if is_known and len(rows) < _MAX_CHANGES:
            later = [row for row in rows if row.number > position]
            return Changes(later[-1].number if later else position, frozenset(row.account_id for row in later))
    return Changes(connection.execute(_NEWEST).scalar_one() or 0, None)


def key(connection: Connection, account_id: str, key_id: str, now_ms: int) -> ApiKey | None:
    """Return an unrevoked key of the account, or None."""
    row = connection.execute(_unrevoked_keys(account_id).where(KEYS.c.id == key_id)).one_or_none()
    return None if row is None else key_from(row, now_ms)


def keys(connection: Connection, account_id: str, page_num: int, page_size: int, now_ms: int) -> Page[ApiKey]:
    """Return a page of the account's unrevoked keys, newest first."""
    order = (KEYS.c.created_at_ms.desc(), KEYS.c.id.desc())
    rows = _unrevoked_keys(account_id)
    return _page(connection, rows, order, page_num, page_size, lambda row: key_from(row, now_ms))


def keys_created_before(connection: Connection, account_id: str, at_ms: int, now_ms: int) -> tuple[ApiKey, ...]:
    """Return the accepted keys without a successor that were created at `at_ms` or before, oldest first."""
    return _accepted_keys(connection, account_id, KEYS.c.created_at_ms <= at_ms, now_ms)


def keys_unused_since(connection: Connection, account_id: str, at_ms: int, now_ms: int) -> tuple[ApiKey, ...]:
    """Return the accepted keys without a successor, neither created nor used after `at_ms`, oldest first."""
    used_at_ms = func.coalesce(KEYS.c.last_used_at_ms, KEYS.c.created_at_ms)
    condition = (KEYS.c.created_at_ms <= at_ms) & (used_at_ms <= at_ms)
    return _accepted_keys(connection, account_id, condition, now_ms)


def events(connection: Connection, account_id: str, key_id: str | None, page_num: int, page_size: int) -> Page[Event]:
    """Return a page of the audit trail of the account, or of one of its keys, newest first."""
    rows = select(EVENTS).where(EVENTS.c.account_id == account_id)
    if key_id is not None:
        rows = rows.where(EVENTS.c.key_id == key_id)
    return _page(connection, rows, (EVENTS.c.number.desc(),), page_num, page_size, event_from)


def account(connection: Connection, account_id: str, now_ms: int) -> Account | None:
    """Return the account, or None."""
    row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == account_id)).one_or_none()
    return None if row is None else account_from(row, now_ms)


def accounts(connection: Connection, page_num: int, page_size: int, now_ms: int) -> Page[Account]:
    """Return a page of all accounts, ordered by id."""
    order = (ACCOUNTS.c.id,)
    return _page(connection, select(ACCOUNTS), order, page_num, page_size, lambda row: account_from(row, now_ms))


def _unrevoked_keys(account_id: str) -> Select[Any]:
    return select(KEYS).where(KEYS.c.account_id == account_id, KEYS.c.revoked_at_ms.is_(None))


def _accepted_keys(
    connection: Connection, account_id: str, condition: ColumnElement[bool], now_ms: int
) -> tuple[ApiKey, ...]:
    accepted = KEYS.c.replaced_by.is_(None) & (KEYS.c.expires_at_ms.is_(None) | (KEYS.c.expires_at_ms > now_ms))
    rows = _unrevoked_keys(account_id).where(accepted, condition).order_by(KEYS.c.created_at_ms, KEYS.c.id)
    return tuple(key_from(row, now_ms) for row in connection.execute(rows))


def _page(
    connection: Connection,
    rows: Select[Any],
    order: tuple[ColumnElement[Any], ...],
    page_num: int,
    page_size: int,
    item_from: Callable[[Row[Any]], _Item],
) -> Page[_Item]:
    total = connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one()
    selected = rows.order_by(*order).limit(page_size).offset((page_num - 1) * page_size)
    return Page(tuple(map(item_from, connection.execute(selected))), total, page_num, page_size)
