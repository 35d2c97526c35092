"""The tables of the key store, and the models in their rows. The module `migrations` creates the tables.

Times are integers, in milliseconds since the epoch, so that both databases store the same values. All table names begin
with ``awx_``, so that the store can share an application's database.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Row, Table, Text

from awx_ratelimit.keys.format import masked
from awx_ratelimit.keys.models import Account, ApiKey, Event, KeyStatus, TemporaryOverride, TracedKey, utc_datetime
from awx_ratelimit.keys.storage import usage_schema

#: Of all tables, also those of usage.
METADATA: Final = usage_schema.METADATA
#: SQLite autoincrements only columns of the type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: The plan belongs to the account, so an upgrade changes all its keys at once. Both columns of overrides are JSON. The
#: temporary ones hold until before `temporary_until_ms`.
ACCOUNTS: Final = Table(
    "awx_accounts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("plan", Text),
    Column("overrides", Text),
    Column("status", Text, nullable=False),
    Column("max_keys", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("temporary_overrides", Text),
    Column("temporary_until_ms", BigInteger),
)

#: `key_hash` is the digest of the whole key, and unique. Rows are never deleted; a revoked key has `revoked_at_ms`.
#: A key is accepted until `expires_at_ms` or, after a rotation, until `grace_ends_at_ms` if that is earlier.
KEYS: Final = Table(
    "awx_api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("family_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("last4", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("created_by", Text),
    Column("expires_at_ms", BigInteger),
    Column("grace_ends_at_ms", BigInteger),
    Column("last_used_at_ms", BigInteger),
    Column("revoked_at_ms", BigInteger),
    Column("rotated_from", Text),
    Column("replaced_by", Text),
)

#: The audit trail. Rows are inserted in the transaction that they describe, and never changed. `details` is JSON.
EVENTS: Final = Table(
    "awx_api_key_events",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("key_id", Text),
    Column("action", Text, nullable=False),
    Column("actor", Text),
    Column("at_ms", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
)

#: The accounts whose cached keys are outdated. Numbers increase in the order of the commits and are never reused.
CHANGES: Final = Table(
    "awx_key_changes",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)


class KeyRecord(NamedTuple):
    """A stored key, as verification needs it. `never_used` is what the store knew when it was read.

    Until before `temporary_until_ms`, `temporary_overrides` apply over `overrides`.
    """

    key_id: str
    account_id: str
    family_id: str
    plan: str | None
    overrides: Mapping[str, Any] | None
    expires_at_ms: int | None
    revoked: bool
    suspended: bool
    never_used: bool
    temporary_overrides: Mapping[str, Any] | None = None
    temporary_until_ms: int = 0


def json_from(value: Mapping[str, Any] | None) -> str | None:
    """Return the text to store for a mapping. Raises TypeError or ValueError for values that JSON does not have."""
    return None if value is None else json.dumps(value, default=dict, allow_nan=False, separators=(",", ":"))


def mapping_from(text: str | None) -> Mapping[str, Any] | None:
    """Return the stored mapping, read-only."""
    return None if text is None else MappingProxyType(json.loads(text))


def key_from(row: Row[Any], now_ms: int) -> ApiKey:
    """Return the key in a row of `KEYS`, with its status at `now_ms`."""
    expires_at_ms = earlier(row.expires_at_ms, row.grace_ends_at_ms)
    status: KeyStatus = "active" if row.replaced_by is None else "rotated"
    return ApiKey(
        id=row.id,
        account_id=row.account_id,
        family_id=row.family_id,
        name=row.name,
        masked=masked(row.prefix, row.last4),
        status="expired" if expires_at_ms is not None and expires_at_ms <= now_ms else status,
        created_at=utc_datetime(row.created_at_ms),
        created_by=row.created_by,
        expires_at=None if expires_at_ms is None else utc_datetime(expires_at_ms),
        last_used_at=None if row.last_used_at_ms is None else utc_datetime(row.last_used_at_ms),
        rotated_from=row.rotated_from,
        replaced_by=row.replaced_by,
    )


def traced_key_from(row: Row[Any], now_ms: int) -> TracedKey:
    """Return the key in a row of `KEYS` with the status of its account."""
    revoked_at = None if row.revoked_at_ms is None else utc_datetime(row.revoked_at_ms)
    return TracedKey(key_from(row, now_ms), revoked_at, row.status)


def key_record_from(row: Row[Any]) -> KeyRecord:
    """Return the key in a row of the look-up by digest."""
    return KeyRecord(
        key_id=row.id,
        account_id=row.account_id,
        family_id=row.family_id,
        plan=row.plan,
        overrides=mapping_from(row.overrides),
        expires_at_ms=earlier(row.expires_at_ms, row.grace_ends_at_ms),
        revoked=row.revoked_at_ms is not None,
        suspended=row.status != "active",
        never_used=row.last_used_at_ms is None,
        temporary_overrides=mapping_from(row.temporary_overrides),
        temporary_until_ms=row.temporary_until_ms or 0,
    )


def account_from(row: Row[Any], now_ms: int) -> Account:
    """Return the account in a row of `ACCOUNTS`, with its temporary override if it holds at `now_ms`."""
    temporary, until_ms = mapping_from(row.temporary_overrides), row.temporary_until_ms or 0
    override = None
    if temporary is not None and now_ms < until_ms:
        override = TemporaryOverride(temporary, utc_datetime(until_ms))
    return Account(
        id=row.id,
        plan=row.plan,
        overrides=mapping_from(row.overrides),
        status=row.status,
        max_keys=row.max_keys,
        created_at=utc_datetime(row.created_at_ms),
        temporary=override,
    )


def event_from(row: Row[Any]) -> Event:
    """Return the event in a row of `EVENTS`."""
    return Event(
        number=row.number,
        account_id=row.account_id,
        key_id=row.key_id,
        action=row.action,
        actor=row.actor,
        at=utc_datetime(row.at_ms),
        details=mapping_from(row.details) or {},
    )


def earlier(first_ms: int | None, second_ms: int | None) -> int | None:
    """Return the earlier of two times, where None means never."""
    return min((time for time in (first_ms, second_ms) if time is not None), default=None)
