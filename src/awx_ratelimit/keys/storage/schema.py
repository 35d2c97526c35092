"""The tables of the key store, for building statements. The module `migrations` creates them.

Times are integers, in milliseconds since the epoch, so that both databases store the same values. All table names begin
with ``awx_``, so that the store can share an application's database.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text

METADATA: Final = MetaData()
#: SQLite autoincrements only columns of the type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: The plan belongs to the account, so an upgrade changes all its keys at once. `overrides` is JSON.
ACCOUNTS: Final = Table(
    "awx_accounts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("plan", Text),
    Column("overrides", Text),
    Column("status", Text, nullable=False),
    Column("max_keys", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
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
