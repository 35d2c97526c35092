"""The versions of the schema, and the migration to the newest one, which runs once however many workers start.

Each migration is fixed SQL text, independent of `schema`, so it stays the same when the tables change later. The first
process takes a lock (SQLite: the write lock; PostgreSQL: an advisory lock) and migrates in one transaction. The others
wait and find nothing to do. Alembic has no such lock and needs files beside the application.
"""

from typing import Final

from sqlalchemy import Connection, inspect, text

from awx_ratelimit.errors import KeyStoreUnusable

_VERSIONS_TABLE = "awx_schema_versions"
#: An advisory lock that no other program uses: the first 8 bytes of the SHA-256 of "awx_ratelimit.keys", signed.
_LOCK = -4_191_163_636_430_774_826

_VERSION_1 = (
    """
    CREATE TABLE awx_accounts (
        id TEXT PRIMARY KEY,
        plan TEXT,
        overrides TEXT,
        status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
        max_keys INTEGER NOT NULL CHECK (max_keys >= 0),
        created_at_ms BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE awx_api_keys (
        id TEXT PRIMARY KEY,
        account_id TEXT NOT NULL REFERENCES awx_accounts (id),
        family_id TEXT NOT NULL,
        name TEXT NOT NULL,
        prefix TEXT NOT NULL,
        last4 TEXT NOT NULL,
        key_hash {bytes} NOT NULL UNIQUE,
        created_at_ms BIGINT NOT NULL,
        created_by TEXT,
        expires_at_ms BIGINT,
        grace_ends_at_ms BIGINT,
        last_used_at_ms BIGINT,
        revoked_at_ms BIGINT,
        rotated_from TEXT,
        replaced_by TEXT
    )
    """,
    "CREATE INDEX awx_api_keys_of_account ON awx_api_keys (account_id, created_at_ms, id)",
    # A safeguard behind the locks: a key has at most one unrevoked successor.
    "CREATE UNIQUE INDEX awx_api_keys_successor ON awx_api_keys (rotated_from) WHERE revoked_at_ms IS NULL",
    """
    CREATE TABLE awx_api_key_events (
        number {number},
        account_id TEXT NOT NULL,
        key_id TEXT,
        action TEXT NOT NULL,
        actor TEXT,
        at_ms BIGINT NOT NULL,
        details TEXT NOT NULL
    )
    """,
    "CREATE INDEX awx_api_key_events_of_account ON awx_api_key_events (account_id, number)",
    "CREATE TABLE awx_key_changes (number {number}, account_id TEXT NOT NULL, at_ms BIGINT NOT NULL)",
    "CREATE INDEX awx_key_changes_by_time ON awx_key_changes (at_ms)",
)
_VERSION_2 = (
    """
    CREATE TABLE awx_usage (
        account_id TEXT NOT NULL,
        period TEXT NOT NULL CHECK (period IN ('hour', 'day')),
        family_id TEXT NOT NULL,
        begins_ms BIGINT NOT NULL,
        allowed BIGINT NOT NULL,
        refused BIGINT NOT NULL,
        peak BIGINT NOT NULL,
        last_at_ms BIGINT NOT NULL,
        PRIMARY KEY (account_id, period, family_id, begins_ms)
    ){without_rowid}
    """,
    """
    CREATE TABLE awx_usage_costs (
        account_id TEXT NOT NULL,
        period TEXT NOT NULL,
        family_id TEXT NOT NULL,
        begins_ms BIGINT NOT NULL,
        measure TEXT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (account_id, period, family_id, begins_ms, measure)
    ){without_rowid}
    """,
    """
    CREATE TABLE awx_usage_refusals (
        account_id TEXT NOT NULL,
        period TEXT NOT NULL,
        family_id TEXT NOT NULL,
        begins_ms BIGINT NOT NULL,
        limit_name TEXT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (account_id, period, family_id, begins_ms, limit_name)
    ){without_rowid}
    """,
    # For the removal of old rows.
    "CREATE INDEX awx_usage_by_time ON awx_usage (period, begins_ms)",
    "CREATE INDEX awx_usage_costs_by_time ON awx_usage_costs (period, begins_ms)",
    "CREATE INDEX awx_usage_refusals_by_time ON awx_usage_refusals (period, begins_ms)",
    """
    CREATE TABLE awx_usage_writers (
        process TEXT NOT NULL PRIMARY KEY,
        sequence BIGINT NOT NULL,
        at_ms BIGINT NOT NULL
    )
    """,
)
_VERSION_3 = (
    "CREATE TABLE awx_usage_marks (name TEXT NOT NULL PRIMARY KEY, until_ms BIGINT NOT NULL)",
    # For the export, which reads hours in this order.
    "DROP INDEX awx_usage_costs_by_time",
    "CREATE INDEX awx_usage_costs_by_time ON awx_usage_costs (period, begins_ms, account_id, family_id, measure)",
)
_VERSION_4 = (
    "ALTER TABLE awx_accounts ADD COLUMN temporary_overrides TEXT",
    "ALTER TABLE awx_accounts ADD COLUMN temporary_until_ms BIGINT",
    # For the operator's lists. Ids are in the order of their bytes, in both databases.
    "CREATE INDEX awx_accounts_by_id ON awx_accounts (id COLLATE {by_bytes})",
    "CREATE INDEX awx_accounts_by_plan ON awx_accounts (plan, id COLLATE {by_bytes})",
    "CREATE INDEX awx_accounts_by_status ON awx_accounts (status, id COLLATE {by_bytes})",
    "CREATE INDEX awx_api_key_events_by_action ON awx_api_key_events (action, number)",
    """
    CREATE TABLE awx_usage_shadows (
        account_id TEXT NOT NULL,
        period TEXT NOT NULL,
        family_id TEXT NOT NULL,
        begins_ms BIGINT NOT NULL,
        limit_name TEXT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (account_id, period, family_id, begins_ms, limit_name)
    ){without_rowid}
    """,
    "CREATE INDEX awx_usage_shadows_by_time ON awx_usage_shadows (period, begins_ms)",
)
_VERSION_5 = (
    """
    CREATE TABLE awx_warned_quotas (
        subject TEXT NOT NULL,
        limit_name TEXT NOT NULL,
        percent INTEGER NOT NULL,
        capacity BIGINT NOT NULL,
        until_ms BIGINT NOT NULL,
        PRIMARY KEY (subject, limit_name)
    )
    """,
    """
    CREATE TABLE awx_quota_warnings (
        id TEXT NOT NULL,
        channel TEXT NOT NULL,
        body TEXT NOT NULL,
        created_at_ms BIGINT NOT NULL,
        attempts INTEGER NOT NULL,
        next_at_ms BIGINT NOT NULL,
        PRIMARY KEY (id, channel)
    )
    """,
    "CREATE INDEX awx_quota_warnings_by_time ON awx_quota_warnings (next_at_ms, id)",
)
# A key is looked for by its masked form, which has its last four characters.
_VERSION_6 = ("CREATE INDEX awx_api_keys_by_last4 ON awx_api_keys (last4, prefix)",)
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    _VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6,
)  # fmt: skip
_TYPES = {
    "sqlite": {
        "bytes": "BLOB",
        "number": "INTEGER PRIMARY KEY AUTOINCREMENT",
        # Such a table is its own index, so that a row is written once.
        "without_rowid": " WITHOUT ROWID",
        "by_bytes": "BINARY",
    },
    "postgresql": {
        "bytes": "BYTEA",
        "number": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "without_rowid": "",
        "by_bytes": '"C"',
    },
}


def schema_version(connection: Connection) -> int:
    """Return the version of the tables, 0 if there are none. Raises KeyStoreUnusable for a version newer than ours."""
    if not inspect(connection).has_table(_VERSIONS_TABLE):
        return 0
    version = int(connection.execute(text(f"SELECT max(version) FROM {_VERSIONS_TABLE}")).scalar_one() or 0)  # noqa: S608  # a constant
    if version > len(MIGRATIONS):
        raise KeyStoreUnusable(
            f"the key store has schema version {version}, and this release supports versions up to {len(MIGRATIONS)}; "
            "install a newer awx-ratelimit"
        )
    return version


def migrate(connection: Connection, now_ms: int) -> None:
    """Migrate the tables to the newest version inside the transaction of `connection`, if they are older."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    version = schema_version(connection)
    if version == len(MIGRATIONS):
        return
    if version == 0:
        connection.execute(text(f"CREATE TABLE {_VERSIONS_TABLE} (version INTEGER PRIMARY KEY, at_ms BIGINT NOT NULL)"))
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            connection.execute(text(statement.format(**_TYPES[dialect])))
        row = {"version": number, "at_ms": now_ms}
        connection.execute(text(f"INSERT INTO {_VERSIONS_TABLE} (version, at_ms) VALUES (:version, :at_ms)"), row)  # noqa: S608  # a constant
