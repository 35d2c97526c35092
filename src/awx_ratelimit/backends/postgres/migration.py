"""Creates and updates the tables and functions in a database."""

import threading
from typing import Any, Final

import psycopg

from awx_ratelimit.backends.postgres.schema import VERSION, lock_number, migration, versions_table

#: A migration waits this long for others, in seconds. No claim waits for it.
_MAX_WAIT_S: Final = 30
_CONNECT_S: Final = 5


def migrate(conninfo: str, place: str) -> None:
    """Create or update tables and functions. Several processes may do so at the same time. Raises psycopg.Error."""
    versions = versions_table(place)
    schema = f'"{place.partition(".")[0]}"'
    with psycopg.connect(conninfo, connect_timeout=_CONNECT_S, prepare_threshold=None) as connection:
        # At stricter levels, what other processes created while this one waited for the lock would stay invisible.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.execute(f"SET LOCAL lock_timeout = '{_MAX_WAIT_S}s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(place),))
        (exists,) = _one(connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (schema,)))
        if not exists:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {versions} (version integer PRIMARY KEY)".encode())
        (known,) = _one(connection.execute(f"SELECT coalesce(max(version), 0) FROM {versions}".encode()))  # noqa: S608  # a checked name
        for version in range(known + 1, VERSION + 1):
            connection.execute(migration(place, version).encode())
            connection.execute(f"INSERT INTO {versions} VALUES ({version})".encode())  # noqa: S608  # a checked name


class Migration(threading.Thread):
    """`migrate` in a thread, so that a call can stop waiting for it."""

    def __init__(self, conninfo: str, place: str) -> None:
        super().__init__(name="awx_ratelimit migration", daemon=True)
        self._arguments = conninfo, place
        self._error: BaseException | None = None

    def run(self) -> None:
        """Migrate."""
        try:
            migrate(*self._arguments)
        except BaseException as error:  # it belongs to the callers
            self._error = error

    def wait(self, seconds: float) -> None:
        """Wait for its end. Raises its error, or TimeoutError after `seconds`; then it goes on."""
        self.join(seconds)
        if self.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error


def _one(cursor: Any) -> Any:
    return cursor.fetchone()
