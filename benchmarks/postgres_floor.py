"""Where the time of one decision in PostgreSQL goes: the same exchange with statements that do less and less."""

import select
from collections.abc import Callable
from struct import Struct
from typing import Any

import psycopg
from psycopg import pq

_INTEGER = Struct("!i").pack
_SETUP = (
    "CREATE UNLOGGED TABLE IF NOT EXISTS bare (id integer PRIMARY KEY, used bigint) WITH (fillfactor = 50)",
    "INSERT INTO bare SELECT number, 0 FROM generate_series(1, 1000) AS number ON CONFLICT DO NOTHING",
    "CREATE OR REPLACE FUNCTION nothing(key integer) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN key; END'",
    """CREATE OR REPLACE FUNCTION bare(key integer) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
      answer bigint;
    BEGIN
      UPDATE bare SET used = used + 1 WHERE id = key RETURNING used INTO answer;
      RETURN answer;
    END $$""",
)
BARE = "UPDATE bare SET used = used + 1 WHERE id = %s RETURNING used"
STATEMENTS = {
    "a statement that does nothing": "SELECT $1::integer",
    "a function that does nothing": "SELECT nothing($1)",
    "the bare UPDATE": BARE.replace("%s", "$1"),
    "the bare UPDATE in a function": "SELECT bare($1)",
}


def set_up(url: str) -> None:
    """Create the tables and functions of these statements."""
    with psycopg.connect(url) as connection:
        for statement in _SETUP:
            connection.execute(statement.encode())


class Prepared:
    """Prepared statements over libpq's own interface, as the backend uses it."""

    def __init__(self, url: str) -> None:
        self.connection = pq.PGconn.connect(url.encode())
        for name, text in STATEMENTS.items():
            self.connection.prepare(name.encode(), text.encode(), (23,))
        self.connection.nonblocking = 1

    def call(self, name: str) -> Callable[[], Any]:
        """A function that runs one of the statements."""
        connection, encoded, parameters, formats = self.connection, name.encode(), [_INTEGER(1)], [1]
        poller = select.poll()
        poller.register(connection.socket, select.POLLIN)

        def run() -> Any:
            connection.send_query_prepared(encoded, parameters, formats, 1)
            while connection.flush():
                pass
            while connection.is_busy():
                poller.poll()
                connection.consume_input()
            value = None
            while (result := connection.get_result()) is not None:
                value = result.get_value(0, 0)
            return value

        return run
