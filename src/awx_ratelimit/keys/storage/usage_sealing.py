"""Sealed hours: what they have cost never changes again, so that they can be exported for billing.

An export first raises the time until which hours are sealed, and then reads the hours before it. An amount that arrives
later, such as a correction, counts in the first open hour. On PostgreSQL, `seal` waits for the transactions that may
still write to the hours that it seals. On SQLite, transactions write one after another.

A sealed amount is never less than 0, because meters accept no negative amounts. A correction that takes back more than
its hour has cost is carried to the next hour, and on until later costs cover it.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

_HOUR_MS: Final = 3_600_000
_SEALED: Final = "sealed"
_REMOVED: Final = "removed"
#: An advisory lock that no other program uses: the first 8 bytes of the SHA-256 of "awx_ratelimit.sealing", signed.
_LOCK: Final = -4_652_465_209_091_036_773
_SHARE: Final = text("SELECT pg_advisory_xact_lock_shared(:lock)")
_EXCLUDE: Final = text("SELECT pg_advisory_xact_lock(:lock)")
_READ: Final = text("SELECT until_ms FROM awx_usage_marks WHERE name = :name")
_RAISE: Final = text(
    "INSERT INTO awx_usage_marks (name, until_ms) VALUES (:name, :until_ms)"
    " ON CONFLICT (name) DO UPDATE SET until_ms = excluded.until_ms"
    " WHERE awx_usage_marks.until_ms < excluded.until_ms"
)
_FIRST_NEGATIVE: Final = text(
    "SELECT min(begins_ms) FROM awx_usage_costs"
    " WHERE period = 'hour' AND begins_ms >= :begins_ms AND begins_ms < :until_ms AND amount < 0"
)
_NEGATIVE: Final = " WHERE period = 'hour' AND begins_ms = :begins_ms AND amount < 0"
_CARRY: Final = text(
    "INSERT INTO awx_usage_costs (account_id, period, family_id, begins_ms, measure, amount)"  # noqa: S608  # constants
    f" SELECT account_id, period, family_id, CAST(:next_ms AS BIGINT), measure, amount FROM awx_usage_costs{_NEGATIVE}"
    " ON CONFLICT (account_id, period, family_id, begins_ms, measure) DO UPDATE SET"
    " amount = awx_usage_costs.amount + excluded.amount"
)
_REMOVE_CARRIED: Final = text(f"DELETE FROM awx_usage_costs{_NEGATIVE}")  # noqa: S608  # constants
_PAGE: Final = (
    "SELECT begins_ms, account_id, family_id, measure, amount FROM awx_usage_costs"
    " WHERE {of_account}period = 'hour' AND begins_ms < :until_ms AND amount > 0"
    " AND (begins_ms, account_id, family_id, measure) > (:begins_ms, :account_id, :family_id, :measure)"
    " ORDER BY begins_ms, account_id, family_id, measure LIMIT :number"
)
_PAGE_OF_ALL: Final = text(_PAGE.format(of_account=""))
_PAGE_OF_ACCOUNT: Final = text(_PAGE.format(of_account="awx_usage_costs.account_id = :only AND "))


class HourCost(NamedTuple):
    """What the keys of a family have used of a measure in the hour from `begins_ms`."""

    begins_ms: int
    account_id: str
    family_id: str
    measure: str
    amount: int


def open_from(connection: Connection) -> int:
    """Return the first open hour. Until the transaction ends, nobody seals another one."""
    _lock(connection, _SHARE)
    return _read(connection, _SEALED)


def seal(connection: Connection, until_ms: int) -> int:
    """Seal the hours before `until_ms`, unless more are sealed. Return until when they are sealed."""
    _lock(connection, _EXCLUDE)
    sealed_ms = _read(connection, _SEALED)
    if until_ms <= sealed_ms:
        return sealed_ms
    _carry(connection, sealed_ms, until_ms)
    connection.execute(_RAISE, {"name": _SEALED, "until_ms": until_ms})
    return until_ms


def note_removed(connection: Connection, until_ms: int) -> None:
    """Store that hours before `until_ms` are removed, in the transaction that removes some."""
    connection.execute(_RAISE, {"name": _REMOVED, "until_ms": until_ms})


def removed_until(connection: Connection) -> int:
    """Return the time before which hours may be removed."""
    return _read(connection, _REMOVED)


def page(
    connection: Connection, after: HourCost, until_ms: int, account_id: str | None, number: int
) -> tuple[HourCost, ...]:
    """Return up to `number` costs of the hours before `until_ms` that follow `after`, in a fixed order."""
    row: dict[str, Any] = {**after._asdict(), "until_ms": until_ms, "number": number}
    del row["amount"]
    if account_id is None:
        found = connection.execute(_PAGE_OF_ALL, row)
    else:
        found = connection.execute(_PAGE_OF_ACCOUNT, {**row, "only": account_id})
    return tuple(HourCost(*columns) for columns in found)


def _carry(connection: Connection, begins_ms: int, until_ms: int) -> None:
    """Carry amounts below 0 from hour to hour, until later costs cover them or the hour is an open one."""
    while True:
        hour = {"begins_ms": begins_ms, "until_ms": until_ms}
        negative_ms = connection.execute(_FIRST_NEGATIVE, hour).scalar_one()
        if negative_ms is None:
            return
        begins_ms = negative_ms + _HOUR_MS
        connection.execute(_CARRY, {"begins_ms": negative_ms, "next_ms": begins_ms})
        connection.execute(_REMOVE_CARRIED, {"begins_ms": negative_ms})


def _lock(connection: Connection, statement: Any) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(statement, {"lock": _LOCK})


def _read(connection: Connection, name: str) -> int:
    return int(connection.execute(_READ, {"name": name}).scalar_one_or_none() or 0)
