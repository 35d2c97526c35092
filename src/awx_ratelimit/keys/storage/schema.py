"""The tables of the key store, as statements are written against them; `migrations` makes them.

Times are whole milliseconds since the epoch in UTC, so that both databases keep the very same. Every table's name
begins with ``awx_``, so that the store may live in an application's own database.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text

METADATA: Final = MetaData()
#: SQLite counts by itself only in a column of the type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

#: The plan is the account's: an upgrade changes all its keys at once. `overrides` is JSON.
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

#: `key_hash` is the digest of the whole key, unique. A key is never deleted: `revoked_at_ms` is set. It is accepted
#: until `expires_at_ms`, its own end, or `grace_ends_at_ms`, which it has once it was rotated: whichever is first.
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

#: What was done, by whom: rows are added, in the transaction of what they tell, and never changed. `details` is JSON.
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

#: Whose keys are to be looked up anew. Numbers rise in the order of the commits, and are never given twice.
CHANGES: Final = Table(
    "awx_key_changes",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
