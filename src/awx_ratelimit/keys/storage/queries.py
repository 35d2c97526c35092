"""What is asked of the tables without changing them, each in one statement, two for a page and its total."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, select

from awx_ratelimit.keys.models import Account, ApiKey, Event, Page
from awx_ratelimit.keys.storage.rows import KnownKey, account_of, event_of, key_of, known_key_of
from awx_ratelimit.keys.storage.schema import ACCOUNTS, CHANGES, EVENTS, KEYS

_Item = TypeVar("_Item")
_MOST_CHANGES = 1_000
_LOOK_UP: Final = (
    select(KEYS, ACCOUNTS.c.plan, ACCOUNTS.c.overrides, ACCOUNTS.c.status)
    .join(ACCOUNTS, ACCOUNTS.c.id == KEYS.c.account_id)
    .where(KEYS.c.key_hash == bindparam("digest"))
)
_CHANGES: Final = (
    select(CHANGES.c.number, CHANGES.c.account_id)
    .where(CHANGES.c.number >= bindparam("position"))
    .order_by(CHANGES.c.number)
    .limit(_MOST_CHANGES)
)
_NEWEST: Final = select(func.max(CHANGES.c.number))


class News(NamedTuple):
    """Whose keys are to be looked up anew since a position, and the position now; None: everybody's."""

    position: int
    accounts: frozenset[str] | None


def known_key(connection: Connection, digest: bytes) -> KnownKey | None:
    """The key of this digest, revoked and expired ones too; for what is none the question is the same."""
    row = connection.execute(_LOOK_UP, {"digest": digest}).one_or_none()
    return None if row is None else known_key_of(row)


def news(connection: Connection, position: int | None) -> News:
    """What has changed since `position`; None: whoever asks knows nothing yet.

    The change at the position is asked for again. Where it is gone, because nobody looked for long, or the database
    is another one now (a copy was put back, a replica took over), nothing that was known is believed any more.
    """
    if position is not None:
        rows = connection.execute(_CHANGES, {"position": position}).all()
        found = position if position == 0 or (rows and rows[0].number == position) else None
        if found is not None and len(rows) < _MOST_CHANGES:
            later = [row for row in rows if row.number > position]
            return News(later[-1].number if later else position, frozenset(row.account_id for row in later))
    return News(connection.execute(_NEWEST).scalar_one() or 0, None)


def key(connection: Connection, account_id: str, key_id: str, now_ms: int) -> ApiKey | None:
    """A key of the account that is not revoked."""
    row = connection.execute(_keys_of(account_id).where(KEYS.c.id == key_id)).one_or_none()
    return None if row is None else key_of(row, now_ms)


def keys(connection: Connection, account_id: str, page_num: int, page_size: int, now_ms: int) -> Page[ApiKey]:
    """The keys of the account that are not revoked, newest first."""
    newest_first = (KEYS.c.created_at_ms.desc(), KEYS.c.id.desc())
    return _page(connection, _keys_of(account_id), newest_first, page_num, page_size, lambda row: key_of(row, now_ms))


def keys_made_before(connection: Connection, account_id: str, at_ms: int, now_ms: int) -> tuple[ApiKey, ...]:
    """The keys that are accepted and have no successor, made at `at_ms` or before, oldest first."""
    return _accepted(connection, account_id, KEYS.c.created_at_ms <= at_ms, now_ms)


def keys_not_used_since(connection: Connection, account_id: str, at_ms: int, now_ms: int) -> tuple[ApiKey, ...]:
    """The keys that are accepted and have no successor, neither made nor used after `at_ms`, oldest first."""
    used_at_ms = func.coalesce(KEYS.c.last_used_at_ms, KEYS.c.created_at_ms)
    return _accepted(connection, account_id, (KEYS.c.created_at_ms <= at_ms) & (used_at_ms <= at_ms), now_ms)


def events(connection: Connection, account_id: str, key_id: str | None, page_num: int, page_size: int) -> Page[Event]:
    """What was done to the account and its keys, or to one key; newest first."""
    which = select(EVENTS).where(EVENTS.c.account_id == account_id)
    if key_id is not None:
        which = which.where(EVENTS.c.key_id == key_id)
    return _page(connection, which, (EVENTS.c.number.desc(),), page_num, page_size, event_of)


def account(connection: Connection, account_id: str) -> Account | None:
    """The account of this id."""
    row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == account_id)).one_or_none()
    return None if row is None else account_of(row)


def accounts(connection: Connection, page_num: int, page_size: int) -> Page[Account]:
    """All accounts, by id: for who runs the store."""
    return _page(connection, select(ACCOUNTS), (ACCOUNTS.c.id,), page_num, page_size, account_of)


def _keys_of(account_id: str) -> Select[Any]:
    return select(KEYS).where(KEYS.c.account_id == account_id, KEYS.c.revoked_at_ms.is_(None))


def _accepted(connection: Connection, account_id: str, which: ColumnElement[bool], now_ms: int) -> tuple[ApiKey, ...]:
    accepted = KEYS.c.replaced_by.is_(None) & (KEYS.c.expires_at_ms.is_(None) | (KEYS.c.expires_at_ms > now_ms))
    chosen = _keys_of(account_id).where(accepted, which).order_by(KEYS.c.created_at_ms, KEYS.c.id)
    return tuple(key_of(row, now_ms) for row in connection.execute(chosen))


def _page(
    connection: Connection,
    which: Select[Any],
    order: tuple[ColumnElement[Any], ...],
    page_num: int,
    page_size: int,
    item_of: Callable[[Row[Any]], _Item],
) -> Page[_Item]:
    total = connection.execute(select(func.count()).select_from(which.subquery())).scalar_one()
    chosen = which.order_by(*order).limit(page_size).offset((page_num - 1) * page_size)
    return Page(tuple(map(item_of, connection.execute(chosen))), total, page_num, page_size)
