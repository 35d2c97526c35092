"""Warnings about quotas: the statements that decide who is warned of what, and that keep warnings until delivered.

One row for each quota says until when its owner needs no other warning. The process whose statement changes it writes
the warning in the same transaction, so no other process does. Any process delivers it.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, text

from awx_ratelimit.core.budget import EVERYONE, SERVICE_SUBJECT, is_alone
from awx_ratelimit.core.function_limit import SUBJECT_PREFIX
from awx_ratelimit.keys.storage import usage
from awx_ratelimit.keys.storage.schema import ACCOUNTS
from awx_ratelimit.keys.warnings.warning import DueWarning, Owner, QuotaWarning
from awx_ratelimit.observability.quota_crossings import QuotaUse

_DAY_MS: Final = 86_400_000
#: Longer than processes try to deliver a warning, and than an app may be down.
_ABANDONED_MS: Final = 7 * _DAY_MS
_ATTEMPTS: Final = 5
#: The subjects of limits that everybody shares.
_EVERYBODY: Final = (SERVICE_SUBJECT, EVERYONE, SUBJECT_PREFIX + EVERYONE)
_ACCOUNTS = select(ACCOUNTS.c.id).where(ACCOUNTS.c.id.in_(bindparam("ids", expanding=True)))
#: A larger quota, after a change of plan, is another one.
_WARN = text(
    "INSERT INTO awx_warned_quotas (subject, limit_name, percent, capacity, until_ms)"
    " VALUES (:subject, :limit, :percent, :capacity, :until_ms)"
    " ON CONFLICT (subject, limit_name) DO UPDATE SET"
    " percent = excluded.percent, capacity = excluded.capacity, until_ms = excluded.until_ms"
    " WHERE awx_warned_quotas.until_ms <= :at_ms OR awx_warned_quotas.percent < excluded.percent"
    " OR awx_warned_quotas.capacity < excluded.capacity"
)
_ADD = text(
    "INSERT INTO awx_quota_warnings (id, channel, body, created_at_ms, attempts, next_at_ms)"
    " VALUES (:id, :channel, :body, :now_ms, 0, :now_ms)"
)
_DUE = text(
    "SELECT id, channel, body, created_at_ms, attempts, next_at_ms FROM awx_quota_warnings"
    " WHERE next_at_ms <= :now_ms AND channel IN :channels ORDER BY next_at_ms, id LIMIT 1"
).bindparams(bindparam("channels", expanding=True))
_LEASE = text(
    "UPDATE awx_quota_warnings SET next_at_ms = :until_ms, attempts = attempts + 1"
    " WHERE id = :id AND channel = :channel AND next_at_ms = :next_at_ms"
)
_POSTPONE = text("UPDATE awx_quota_warnings SET next_at_ms = :next_at_ms WHERE id = :id AND channel = :channel")
_REMOVE = text("DELETE FROM awx_quota_warnings WHERE id = :id AND channel = :channel")
_PENDING = text("SELECT count(*) FROM awx_quota_warnings WHERE channel IN :channels").bindparams(
    bindparam("channels", expanding=True)
)
_REMOVE_OLD = text("DELETE FROM awx_warned_quotas WHERE until_ms < :before_ms")
_REMOVE_ABANDONED = text("DELETE FROM awx_quota_warnings WHERE created_at_ms < :before_ms")


def add(connection: Connection, uses: Sequence[QuotaUse], channels: Sequence[str], now_ms: int) -> None:
    """Store a warning for each use that needs one, for each channel.

    Uses of subjects that are neither stored keys nor accounts need none.
    """
    owners = _owners(connection, uses)
    # In the order in which all processes lock the rows.
    for use in sorted(uses, key=lambda use: (use.subject, use.limit)):
        owner = owners.get((use.scope, use.subject))
        if owner is not None and connection.execute(_WARN, _state(use)).rowcount:
            warning = QuotaWarning.of(use, owner)
            row = {"id": warning.id, "body": warning.to_json(), "now_ms": now_ms}
            connection.execute(_ADD, [{**row, "channel": channel} for channel in channels])


def is_due(connection: Connection, channels: Sequence[str], now_ms: int) -> bool:
    """Return whether `take` may find a warning. It reads only, and takes no lock of SQLite."""
    return connection.execute(_DUE, {"now_ms": now_ms, "channels": channels}).one_or_none() is not None


def take(connection: Connection, channels: Sequence[str], now_ms: int, lease_ms: int) -> DueWarning | None:
    """Return a warning that is due, if there is one. No other process gets it for `lease_ms`."""
    for _ in range(_ATTEMPTS):
        row = connection.execute(_DUE, {"now_ms": now_ms, "channels": channels}).one_or_none()
        if row is None:
            return None
        lease = {"id": row.id, "channel": row.channel, "next_at_ms": row.next_at_ms, "until_ms": now_ms + lease_ms}
        if connection.execute(_LEASE, lease).rowcount:
            return DueWarning(row.id, row.channel, row.body, row.created_at_ms, row.attempts + 1)
    return None


def postpone(connection: Connection, warning: DueWarning, next_at_ms: int) -> None:
    """Make a warning due at `next_at_ms`."""
    connection.execute(_POSTPONE, {"id": warning.id, "channel": warning.channel, "next_at_ms": next_at_ms})


def remove(connection: Connection, warning: DueWarning) -> None:
    """Remove a warning that was delivered or given up."""
    connection.execute(_REMOVE, {"id": warning.id, "channel": warning.channel})


def remove_old(connection: Connection, now_ms: int) -> None:
    """Remove what says that nobody is to be warned, if that was over a day ago, and warnings that nobody delivers.

    A warning is a week old only if no process has its channel any more, or if the app was down.
    """
    connection.execute(_REMOVE_OLD, {"before_ms": now_ms - _DAY_MS})
    connection.execute(_REMOVE_ABANDONED, {"before_ms": now_ms - _ABANDONED_MS})


def pending(connection: Connection, channels: Sequence[str]) -> int:
    """Return the number of warnings that are not delivered."""
    return int(connection.execute(_PENDING, {"channels": channels}).scalar_one())


def _owners(connection: Connection, uses: Sequence[QuotaUse]) -> dict[tuple[str | None, str], Owner]:
    """The owner of each scope and subject. A key without an account is its own account for shared limits."""
    subjects = sorted({use.subject for use in uses})
    keys = usage.key_owners(connection, subjects)
    accounts = {row.id for row in connection.execute(_ACCOUNTS, {"ids": subjects})}
    owners: dict[tuple[str | None, str], Owner] = {}
    for scope, subject in {(use.scope, use.subject) for use in uses}:
        if scope is not None and subject in _EVERYBODY:
            owners[scope, subject] = Owner(None, None)
        elif scope is not None and subject in accounts and not is_alone(scope):
            owners[scope, subject] = Owner(subject, None)
        elif subject in keys:
            owners[scope, subject] = Owner(keys[subject][0], subject)
    return owners


def _state(use: QuotaUse) -> dict[str, Any]:
    fields = use._asdict()
    return {name: fields[name] for name in ("subject", "limit", "percent", "capacity", "until_ms", "at_ms")}
