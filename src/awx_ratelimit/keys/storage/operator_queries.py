"""The operator's queries, over all accounts. Each reads a bounded number of rows, through an index."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, collate, func, literal_column, select

from awx_ratelimit.keys.models import Account, Event, Page
from awx_ratelimit.keys.storage.schema import ACCOUNTS, EVENTS, account_from, event_from
from awx_ratelimit.keys.storage.usage_queries import in_time_of_account
from awx_ratelimit.keys.storage.usage_schema import USAGE, USAGE_SHADOWS
from awx_ratelimit.keys.usage_range import Range

#: No list has more items. To see others, filter it.
MAX_LISTED: Final = 100_000
#: Ids are visible ASCII characters, so this one is behind all of them.
_BEHIND: Final = "\x7f"
_Item = TypeVar("_Item")


class AccountFilter(NamedTuple):
    """Which accounts to list. None means all. `prefix` is the beginning of the id."""

    prefix: str | None
    plan: str | None
    status: str | None


class AccountUsage(NamedTuple):
    """An account, with the requests of all its keys in a period."""

    account: Account
    allowed: int
    refused: int


class AccountShadows(NamedTuple):
    """The requests of an account that shadow limits would have refused, by limit. `number` is their sum."""

    account_id: str
    number: int
    limits: dict[str, int]


def accounts(
    connection: Connection, asked: AccountFilter, times: Range, page_num: int, page_size: int, now_ms: int
) -> Page[AccountUsage]:
    """Return a page of the accounts by id, each with its usage."""
    rows = select(ACCOUNTS).where(*_conditions(connection, asked))
    page = _page(
        connection,
        rows,
        ACCOUNTS.c.id,
        (_id(connection),),
        page_num,
        page_size,
        lambda row: AccountUsage(account_from(row, now_ms), 0, 0),
    )
    ids = [item.account.id for item in page.items]
    sums = select(USAGE.c.account_id, *_sums()).where(USAGE.c.account_id.in_(ids), *in_time_of_account(USAGE, *times))
    used = {row.account_id: row for row in connection.execute(sums.group_by(USAGE.c.account_id))}
    items = tuple(
        _with_usage(item.account, used[item.account.id]) if item.account.id in used else item for item in page.items
    )
    return Page(items, page.total, page_num, page_size)


def accounts_by_usage(
    connection: Connection,
    asked: AccountFilter,
    times: Range,
    order: str,
    page_num: int,
    page_size: int,
    now_ms: int,
) -> Page[AccountUsage]:
    """Return a page of the accounts with usage in the time, by requests or refusals, most first."""
    used = select(USAGE.c.account_id, *_sums()).where(*_in_time(USAGE, times)).group_by(USAGE.c.account_id).subquery()
    rows = select(ACCOUNTS, used.c.allowed, used.c.refused).join(used, used.c.account_id == ACCOUNTS.c.id)
    most = used.c.refused if order == "refusals" else used.c.allowed + used.c.refused
    # The number of rows in the same statement, because another one would add up all usage again.
    rows = rows.add_columns(func.count().over().label("total")).where(*_conditions(connection, asked))
    rows = rows.order_by(most.desc(), _id(connection))
    begin = (page_num - 1) * page_size
    found = connection.execute(rows.limit(min(page_size, max(0, MAX_LISTED - begin))).offset(begin)).all()
    counted = found if found or begin == 0 else connection.execute(rows.limit(1)).all()
    items = tuple(_with_usage(account_from(row, now_ms), row) for row in found)
    return Page(items, min(counted[0].total, MAX_LISTED) if counted else 0, page_num, page_size)


def events(
    connection: Connection,
    account_id: str | None,
    action: str | None,
    before: int | None,
    page_num: int,
    page_size: int,
) -> Page[Event]:
    """Return a page of the audit trail of all accounts, newest first. Numbers are below `before`."""
    # An account has fewer events than an action, so do not let SQLite take the index of the actions.
    by_action = EVENTS.c.action if account_id is None else EVENTS.c.action.concat(literal_column("''"))
    asked = ((EVENTS.c.account_id, account_id), (by_action, action))
    rows = select(EVENTS).where(*(column == value for column, value in asked if value is not None))
    if before is not None:
        rows = rows.where(EVENTS.c.number < before)
    return _page(connection, rows, EVENTS.c.number, (EVENTS.c.number.desc(),), page_num, page_size, event_from)


def shadow_limits(connection: Connection, times: Range, number: int) -> dict[str, int]:
    """Return how many requests of all accounts each shadow limit would have refused, most first."""
    limit, amount = USAGE_SHADOWS.c.limit_name, func.sum(USAGE_SHADOWS.c.amount)
    rows = select(limit, amount).where(*_in_time(USAGE_SHADOWS, times)).group_by(limit).having(amount > 0)
    return {name: int(total) for name, total in connection.execute(rows.order_by(amount.desc(), limit).limit(number))}


def shadow_accounts(connection: Connection, times: Range, number: int) -> tuple[AccountShadows, ...]:
    """Return the accounts of which shadow limits would have refused most requests."""
    account_id, amount = USAGE_SHADOWS.c.account_id, func.sum(USAGE_SHADOWS.c.amount)
    chosen = _in_time(USAGE_SHADOWS, times)
    sums = select(account_id, amount).where(*chosen).group_by(account_id).having(amount > 0)
    most = connection.execute(sums.order_by(amount.desc(), account_id).limit(number)).all()
    limit = USAGE_SHADOWS.c.limit_name
    of_these = (account_id.in_([one for one, _ in most]), *in_time_of_account(USAGE_SHADOWS, *times))
    of_most = select(account_id, limit, amount).where(*of_these)
    limits: dict[str, dict[str, int]] = {one: {} for one, _ in most}
    for one, name, total in connection.execute(of_most.group_by(account_id, limit).order_by(amount.desc(), limit)):
        limits[one][name] = int(total)
    return tuple(AccountShadows(one, int(total), limits[one]) for one, total in most)


def _conditions(connection: Connection, asked: AccountFilter) -> list[ColumnElement[bool]]:
    conditions = [
        column == value
        for column, value in ((ACCOUNTS.c.plan, asked.plan), (ACCOUNTS.c.status, asked.status))
        if value is not None
    ]
    if asked.prefix is not None:
        account_id = _id(connection)
        conditions += [account_id >= asked.prefix, account_id < asked.prefix + _BEHIND]
    return conditions


def _id(connection: Connection) -> ColumnElement[str]:
    """The account's id, compared by its bytes, as in the index. SQLite does so by itself."""
    return collate(ACCOUNTS.c.id, "C") if connection.dialect.name == "postgresql" else ACCOUNTS.c.id


def _sums() -> Sequence[ColumnElement[Any]]:
    return [func.sum(USAGE.c.allowed).label("allowed"), func.sum(USAGE.c.refused).label("refused")]


def _in_time(table: Any, times: Range) -> list[ColumnElement[bool]]:
    begins_ms = table.c.begins_ms
    return [table.c.period == times.by, begins_ms >= times.begins_ms, begins_ms < times.ends_ms]


def _with_usage(account: Account, row: Row[Any]) -> AccountUsage:
    # A correction may come alone after its hour was removed.
    return AccountUsage(account, max(0, int(row.allowed)), max(0, int(row.refused)))


def _page(
    connection: Connection,
    rows: Select[Any],
    key: ColumnElement[Any],
    order: tuple[ColumnElement[Any], ...],
    page_num: int,
    page_size: int,
    item_from: Callable[[Row[Any]], _Item],
) -> Page[_Item]:
    counted = rows.with_only_columns(key, maintain_column_froms=True).limit(MAX_LISTED).subquery()
    total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
    begin = (page_num - 1) * page_size
    selected = rows.order_by(*order).limit(min(page_size, max(0, MAX_LISTED - begin))).offset(begin)
    items = tuple(map(item_from, connection.execute(selected))) if begin < total else ()
    return Page(items, total, page_num, page_size)
