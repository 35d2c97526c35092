"""A hot subject must not grow its table: ``python -m benchmarks.bench_postgres_bloat [UPDATES]``.

PostgreSQL writes each update as a new row version. This prints how large the table is after each tenth of a million
updates of one row, and how it grows while another transaction stays open, which keeps old versions alive.
"""

import sys
import time

import psycopg
from tests.postgres_servers import running_postgres

from awx_ratelimit import Plan
from awx_ratelimit.backends.postgres import PostgresBackend
from awx_ratelimit.backends.postgres.codec import Codec

PLAN = Plan.of("bench", per_minute=100_000_000, per_day=1_000_000_000)
PLACE, TIMEOUT_MS = "awx.limits", 60_000
PARTS = 10
SIZES = """
SELECT pg_relation_size('awx.limits_records'), pg_indexes_size('awx.limits_records'), n_tup_upd, n_tup_hot_upd,
  autovacuum_count FROM pg_stat_user_tables WHERE relid = 'awx.limits_records'::regclass
"""


def main(updates: int) -> None:
    """Print the figures."""
    with running_postgres() as server:
        url = server.url(server.new_database())
        PostgresBackend.from_url(url, timeout_ms=TIMEOUT_MS).close()
        print(f"\n## A hot subject on PostgreSQL\n\n{updates:,} claims of one subject, each in its own transaction.\n")
        print("| claims | table | indexes | updates | within their page (HOT) | autovacuum runs | us a claim |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        with psycopg.connect(url, autocommit=True) as connection:
            for part in range(1, PARTS + 1):
                row(connection, f"{part * updates // PARTS:,}", claim(connection, updates // PARTS))
            with psycopg.connect(url) as other:
                other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                other.execute("SELECT count(*) FROM awx.limits_records")
                held = updates // PARTS // PARTS
                row(connection, f"{held:,} more, while another transaction is open", claim(connection, held))
            row(connection, f"{held:,} more, after it has ended", claim(connection, held))


def claim(connection: psycopg.Connection, claims: int) -> float:
    """Claim, each time in a transaction of its own, in a loop on the server; the microseconds of each."""
    call = Codec(PLACE, bytes(16)).acquire([("hot", PLAN, 1, 1)])
    text = call.statement.text.decode()
    key, lease = call.parameters[0] or b"", "{0,0,1}"
    for number, literal in enumerate((f"'\\x{key.hex()}'::bytea", f"'{lease}'::bigint[]", "NULL::bigint", "'0'"), 1):
        text = text.replace(f"${number}", literal, 1)
    text = text.replace("SELECT", "PERFORM", 1)
    begin_s = time.perf_counter()
    connection.execute(f"DO $do$ BEGIN FOR i IN 1 .. {claims} LOOP {text}; COMMIT; END LOOP; END $do$".encode())
    return (time.perf_counter() - begin_s) / claims * 1e6


def row(connection: psycopg.Connection, label: str, took_us: float) -> None:
    """Print a row of the table."""
    # Statistics of a session arrive a second after its last transaction.
    time.sleep(1.2)
    table, indexes, changed, hot, vacuums = connection.execute(SIZES).fetchone() or (0,) * 5
    share = hot / max(1, changed)
    print(
        f"| {label} | {table / 1024:,.0f} KiB | {indexes / 1024:,.0f} KiB | {changed:,} | {share:.2%} | "
        f"{vacuums} | {took_us:,.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
