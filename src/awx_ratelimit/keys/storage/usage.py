"""What keys have used: the statements that write it, and remove it when it is old.

A batch is written in one transaction, which first raises the number that is stored for its process. So a batch that is
sent again, because the answer of its commit was lost, is not written twice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, bindparam, select, text

from awx_ratelimit.keys.storage import usage_sealing
from awx_ratelimit.keys.storage.schema import KEYS
from awx_ratelimit.observability.subject_counts import HourUsage

DAY_MS: Final = 86_400_000
#: Hours are kept so long. Days are kept longer: see `UsageHistory`.
HOURS_KEPT_MS: Final = 35 * DAY_MS
#: A process that writes nothing for so long is dead.
_WRITERS_KEPT_MS: Final = 35 * DAY_MS
_REMOVER: Final = "remover"
_REMOVED_AT_ONCE: Final = 1_000
#: Sums of amounts up to this one fit into 64 bits.
_MAX_AMOUNT: Final = 2**53

_RAISE_SEQUENCE = text(
    "INSERT INTO awx_usage_writers (process, sequence, at_ms) VALUES (:process, :sequence, :at_ms)"
    " ON CONFLICT (process) DO UPDATE SET sequence = excluded.sequence, at_ms = excluded.at_ms"
    " WHERE awx_usage_writers.sequence < excluded.sequence"
)
_TAKE_TURN = text(
    "INSERT INTO awx_usage_writers (process, sequence, at_ms) VALUES (:process, 0, :at_ms)"
    " ON CONFLICT (process) DO UPDATE SET at_ms = excluded.at_ms"
    " WHERE awx_usage_writers.at_ms NOT BETWEEN :since_ms AND :until_ms"
)
_ADD_USAGE = text(
    "INSERT INTO awx_usage (account_id, period, family_id, begins_ms, allowed, refused, peak, last_at_ms)"
    " VALUES (:account_id, :period, :family_id, :begins_ms, :allowed, :refused, :peak, :last_at_ms)"
    " ON CONFLICT (account_id, period, family_id, begins_ms) DO UPDATE SET"
    " allowed = awx_usage.allowed + excluded.allowed, refused = awx_usage.refused + excluded.refused,"
    " peak = CASE WHEN excluded.peak > awx_usage.peak THEN excluded.peak ELSE awx_usage.peak END,"
    " last_at_ms = CASE WHEN excluded.last_at_ms > awx_usage.last_at_ms"
    " THEN excluded.last_at_ms ELSE awx_usage.last_at_ms END"
)
_ADD_AMOUNT: Final = (
    "INSERT INTO {table} (account_id, period, family_id, begins_ms, {name}, amount)"
    " VALUES (:account_id, :period, :family_id, :begins_ms, :name, :amount)"
    " ON CONFLICT (account_id, period, family_id, begins_ms, {name}) DO UPDATE SET"
    " amount = CASE WHEN {table}.amount > {max} THEN {table}.amount ELSE {table}.amount + excluded.amount END"
)
_ADD_COSTS = text(_ADD_AMOUNT.format(table="awx_usage_costs", name="measure", max=_MAX_AMOUNT))
_ADD_REFUSALS = text(_ADD_AMOUNT.format(table="awx_usage_refusals", name="limit_name", max=_MAX_AMOUNT))
_ADD_SHADOWS = text(_ADD_AMOUNT.format(table="awx_usage_shadows", name="limit_name", max=_MAX_AMOUNT))
#: Nearly every subject is the family already.
_OWNERS = select(KEYS.c.id, KEYS.c.account_id, KEYS.c.family_id).where(KEYS.c.id.in_(bindparam("ids", expanding=True)))
_IDENTITY: Final = "account_id, period, family_id, begins_ms"
_REMOVALS: Final = tuple(
    text(
        f"DELETE FROM {table} WHERE ({_IDENTITY}) IN (SELECT {_IDENTITY} FROM {table}"  # noqa: S608  # constants
        " WHERE period = :period AND begins_ms < :before_ms ORDER BY begins_ms LIMIT :number)"
    )
    for table in ("awx_usage", "awx_usage_costs", "awx_usage_refusals", "awx_usage_shadows")
)
_REMOVE_WRITERS = text("DELETE FROM awx_usage_writers WHERE at_ms < :before_ms AND process <> :remover")
#: The account and the family of each subject.
_Owners: TypeAlias = Mapping[str, tuple[str, str]]


def add(connection: Connection, process: str, sequence: int, now_ms: int, usages: Sequence[HourUsage]) -> bool:
    """Add `usages` to the stored ones, unless `process` has written this `sequence` before. Return whether it had not.

    Subjects that are no stored keys are left out. Costs of a sealed hour count in the first open hour.
    """
    row = {"process": process, "sequence": sequence, "at_ms": now_ms}
    if not connection.execute(_RAISE_SEQUENCE, row).rowcount:
        return False
    open_from_ms = usage_sealing.open_from(connection)
    owners = key_owners(connection, sorted({usage.subject for usage in usages}))
    stored = [usage for usage in usages if usage.subject in owners]
    for statement, rows in (
        (_ADD_USAGE, _usage_rows(owners, stored)),
        (_ADD_COSTS, _amount_rows(owners, [(usage, usage.costs) for usage in stored], open_from_ms)),
        (_ADD_REFUSALS, _amount_rows(owners, [(usage, usage.refusals) for usage in stored])),
        (_ADD_SHADOWS, _amount_rows(owners, [(usage, usage.shadows) for usage in stored])),
    ):
        if rows:
            connection.execute(statement, rows)
    return True


def key_owners(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the account and the family of each stored key."""
    return {row.id: (row.account_id, row.family_id) for row in connection.execute(_OWNERS, {"ids": ids})}


def take_turn(connection: Connection, now_ms: int, interval_ms: int) -> bool:
    """Return whether this process is to remove old rows now. One process is, once in `interval_ms`."""
    # A turn in the future was taken by a wrong clock.
    row = {"process": _REMOVER, "at_ms": now_ms, "since_ms": now_ms - interval_ms + 1, "until_ms": now_ms + interval_ms}
    return connection.execute(_TAKE_TURN, row).rowcount > 0


def remove_some(connection: Connection, now_ms: int, keep_days: int) -> bool:
    """Remove some rows that are too old. Return whether there may be more."""
    more = False
    usage_sealing.note_removed(connection, _floor(now_ms - min(HOURS_KEPT_MS, keep_days * DAY_MS), DAY_MS))
    for period, kept_ms in (("hour", min(HOURS_KEPT_MS, keep_days * DAY_MS)), ("day", keep_days * DAY_MS)):
        row = {"period": period, "before_ms": _floor(now_ms - kept_ms, DAY_MS), "number": _REMOVED_AT_ONCE}
        for statement in _REMOVALS:
            more |= connection.execute(statement, row).rowcount >= _REMOVED_AT_ONCE
    connection.execute(_REMOVE_WRITERS, {"before_ms": now_ms - _WRITERS_KEPT_MS, "remover": _REMOVER})
    return more


def _usage_rows(owners: _Owners, usages: Iterable[HourUsage]) -> list[dict[str, Any]]:
    """A row for each hour and each day, in the order in which all processes lock them."""
    rows: dict[tuple[Any, ...], list[int]] = {}
    for usage in usages:
        for key in _identities(owners, usage):
            row = rows.setdefault(key, [0, 0, 0, 0])
            row[0] += usage.allowed
            row[1] += usage.refused
            row[2] = max(row[2], usage.peak)
            row[3] = max(row[3], usage.last_at_ms)
    names = ("account_id", "period", "family_id", "begins_ms", "allowed", "refused", "peak", "last_at_ms")
    return [dict(zip(names, (*key, *row), strict=True)) for key, row in sorted(rows.items())]


def _amount_rows(
    owners: _Owners, usages: Iterable[tuple[HourUsage, Mapping[str, int]]], open_from_ms: int = 0
) -> list[dict[str, Any]]:
    amounts: Counter[tuple[Any, ...]] = Counter()
    for usage, by_name in usages:
        for key in _identities(owners, usage, open_from_ms):
            for name, amount in by_name.items():
                amounts[*key, name] += amount
    names = ("account_id", "period", "family_id", "begins_ms", "name", "amount")
    return [
        dict(zip(names, (*key, max(-_MAX_AMOUNT, min(amount, _MAX_AMOUNT))), strict=True))
        for key, amount in sorted(amounts.items())
    ]


def _identities(owners: _Owners, usage: HourUsage, open_from_ms: int = 0) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    account_id, family_id = owners[usage.subject]
    return (
        (account_id, "hour", family_id, max(usage.begins_ms, open_from_ms)),
        (account_id, "day", family_id, _floor(usage.begins_ms, DAY_MS)),
    )


def _floor(at_ms: int, unit_ms: int) -> int:
    return at_ms - at_ms % unit_ms
