"""What keys have used: the statements that read it, for one account."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, literal_column, select

from awx_ratelimit.keys.storage.schema import KEYS
from awx_ratelimit.keys.storage.usage_schema import USAGE, USAGE_COSTS, USAGE_REFUSALS, USAGE_SHADOWS, USAGE_WRITERS


class PeriodUsage(NamedTuple):
    """What one key, or all keys of an account, used in the hour or day from `begins_ms`."""

    begins_ms: int
    allowed: int
    refused: int
    peak: int
    last_at_ms: int | None
    costs: Mapping[str, int]
    refusals: Mapping[str, int]


class FamilyUsage(NamedTuple):
    """What the keys of one family used in a time, and the newest of them."""

    key_id: str
    name: str
    prefix: str
    last4: str
    revoked: bool
    allowed: int
    refused: int
    peak: int
    last_at_ms: int


def has_writers(connection: Connection) -> bool:
    """Return whether a process has ever written usage. Of the rows of processes, the one of the remover stays."""
    return connection.execute(select(USAGE_WRITERS.c.process).limit(1)).first() is not None


def family_of(connection: Connection, account_id: str, key_id: str) -> str | None:
    """Return the family of a key of the account, revoked or not; None if the account has had no such key."""
    found = select(KEYS.c.family_id).where(KEYS.c.account_id == account_id, KEYS.c.id == key_id)
    family_id: str | None = connection.execute(found).scalar_one_or_none()
    return family_id


def periods(
    connection: Connection, account_id: str, family_id: str | None, period: str, begins_ms: int, ends_ms: int
) -> tuple[PeriodUsage, ...]:
    """Return the usage of the account, or of one family, for each hour or day in which there was any, in order."""
    counts = _chosen(USAGE, account_id, family_id, period, begins_ms, ends_ms)
    columns = [
        func.sum(USAGE.c.allowed),
        func.sum(USAGE.c.refused),
        func.max(USAGE.c.peak),
        func.max(USAGE.c.last_at_ms),
    ]
    at_ms = unindexed(USAGE.c.begins_ms)
    rows = connection.execute(select(at_ms, *columns).where(*counts).group_by(at_ms)).all()
    amounts = []
    for table, name in ((USAGE_COSTS, USAGE_COSTS.c.measure), (USAGE_REFUSALS, USAGE_REFUSALS.c.limit_name)):
        chosen = _chosen(table, account_id, family_id, period, begins_ms, ends_ms)
        query = select(table.c.begins_ms, name, func.sum(table.c.amount)).where(*chosen)
        found: dict[int, dict[str, int]] = {}
        for at_ms, text_, amount in connection.execute(query.group_by(table.c.begins_ms, name).order_by(name)):
            # A correction may come alone after its hour was removed.
            found.setdefault(at_ms, {})[text_] = max(0, int(amount))
        amounts.append(found)
    costs, refusals = amounts
    counted = {row[0]: row[1:] for row in rows}
    # Costs alone are late ones, whose own hour is sealed.
    return tuple(
        PeriodUsage(
            at_ms, max(0, int(allowed)), max(0, int(refused)), peak, last_at_ms or None,
            costs.get(at_ms, {}), refusals.get(at_ms, {}),
        )
        for at_ms in sorted({*counted, *costs})
        for allowed, refused, peak, last_at_ms in [counted.get(at_ms, (0, 0, 0, 0))]
    )  # fmt: skip


def refusals(
    connection: Connection, account_id: str, family_id: str | None, period: str, begins_ms: int, ends_ms: int
) -> dict[str, int]:
    """Return the number of refusals by each limit, most first."""
    return _by_limit(USAGE_REFUSALS, connection, account_id, family_id, period, begins_ms, ends_ms)


def shadows(
    connection: Connection, account_id: str, family_id: str | None, period: str, begins_ms: int, ends_ms: int
) -> dict[str, int]:
    """Return how many requests each shadow limit would have refused, most first."""
    return _by_limit(USAGE_SHADOWS, connection, account_id, family_id, period, begins_ms, ends_ms)


def busiest(
    connection: Connection, account_id: str, period: str, begins_ms: int, ends_ms: int, number: int
) -> tuple[FamilyUsage, ...]:
    """Return the families of the account with the most requests, each with its newest key."""
    chosen = _chosen(USAGE, account_id, None, period, begins_ms, ends_ms)
    allowed, refused = func.sum(USAGE.c.allowed), func.sum(USAGE.c.refused)
    query = select(USAGE.c.family_id, allowed, refused, func.max(USAGE.c.peak), func.max(USAGE.c.last_at_ms))
    order = ((allowed + refused).desc(), USAGE.c.family_id)
    rows = connection.execute(query.where(*chosen).group_by(USAGE.c.family_id).order_by(*order).limit(number)).all()
    in_families = KEYS.c.family_id.in_([row.family_id for row in rows])
    columns = (KEYS.c.family_id, KEYS.c.id, KEYS.c.name, KEYS.c.prefix, KEYS.c.last4, KEYS.c.revoked_at_ms)
    keys = select(*columns).where(KEYS.c.account_id == account_id, in_families)
    oldest_first = (KEYS.c.replaced_by.is_(None), KEYS.c.created_at_ms, KEYS.c.id)
    newest = {key.family_id: key for key in connection.execute(keys.order_by(*oldest_first))}
    found = []
    for family_id, allowed_, refused_, peak, last_at_ms in rows:
        key = newest[family_id]
        counts = (max(0, int(allowed_)), max(0, int(refused_)), peak, last_at_ms)
        found.append(FamilyUsage(key.id, key.name, key.prefix, key.last4, key.revoked_at_ms is not None, *counts))
    return tuple(found)


def _by_limit(table: Any, connection: Connection, *chosen: Any) -> dict[str, int]:
    name, amount = table.c.limit_name, func.sum(table.c.amount)
    query = select(name, amount).where(*_chosen(table, *chosen)).group_by(name).having(amount > 0)
    return {limit: int(number) for limit, number in connection.execute(query.order_by(amount.desc(), name))}


def _chosen(
    table: Any, account_id: str, family_id: str | None, period: str, begins_ms: int, ends_ms: int
) -> list[ColumnElement[bool]]:
    of_key = [] if family_id is None else [table.c.family_id == family_id]
    return [table.c.account_id == account_id, *of_key, *in_time_of_account(table, period, begins_ms, ends_ms)]


def in_time_of_account(table: Any, period: str, begins_ms: int, ends_ms: int) -> list[ColumnElement[bool]]:
    """The conditions on the time for statements that name accounts."""
    at_ms = unindexed(table.c.begins_ms)
    return [table.c.period == period, at_ms >= begins_ms, at_ms < ends_ms]


def unindexed(number: ColumnElement[int]) -> ColumnElement[int]:
    """The column as a sum, which no index has.

    Without statistics SQLite prefers an index of the column to one by account, and reads the rows of all accounts.
    """
    return number + literal_column("0")
