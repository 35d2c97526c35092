"""A database: how to connect to it, and what its errors mean to its operator."""

import contextlib
import select
import threading
from typing import Any, NoReturn

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from awx_ratelimit.backends.postgres.schema import CORRUPTION_CODES, VERSION, lock_number, migration, versions_table
from awx_ratelimit.backends.remote.replies import locked_error
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable, StateDamaged
from awx_ratelimit.runtime.deadlines import Deadline

#: Errors of libpq and of sockets.
CLIENT_ERRORS = (psycopg.Error, OSError)
#: A migration waits this long for others, and no claim waits for it.
_MIGRATION_S = 30
#: The share of the timeout for one lock. A record can make a call wait twice: behind others that wait for it, and for
#: its holder. Claims of other records wait for the call before, and their own. All of this must fit into the timeout.
_LOCK_SHARE = 0.2
#: The class of an error, or its whole code, and a remedy.
_REMEDIES = {
    "28": "check user and password",
    "3D": "create the database, or name another one",
    "42501": "allow its user to create a schema. Or run `awx-ratelimit doctor` as a user who may, and allow this one "
    "USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE on its tables",
    "42883": "its tables are of a newer version; upgrade awx_ratelimit. If somebody has dropped some functions, drop "
    "the schema, or write another prefix",
    "25006": "it is a read-only standby: name its primary, or all of them with &target_session_attrs=read-write",
}
#: Text of errors of libpq, which have no code, and remedies.
_TEXTS = (
    ("password authentication failed", "check user and password"),
    ("no password supplied", "name a password"),
    ("does not exist", "create it, or name another one"),
    ("certificate verify failed", "its certificate is not trusted: name its authority with &sslrootcert="),
)


class Refusal(Exception):
    """The server refused a call, and did nothing of it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def is_unknown(self) -> bool:
        """Whether the functions or tables are missing."""
        return self.code in ("42883", "42P01", "3F000", "42704")

    @property
    def may_succeed(self) -> bool:
        """Whether the same call may succeed now: it was rolled back because of other calls."""
        return self.code in ("40001", "40P01")

    @property
    def is_locked(self) -> bool:
        """Whether another transaction has kept a record locked for too long."""
        return self.code == "55P03"

    @property
    def is_about_names(self) -> bool:
        """Whether a prepared statement is missing or was there before, because of a pooler."""
        return self.code in ("26000", "42P05")

    @property
    def ends_connection(self) -> bool:
        """Whether the connection is of no more use: it ends, or leads to a standby."""
        return self.code[:2] in ("08", "57") or self.code == "25006"


class Server:
    """The database that `conninfo` names. A call fails if its reply does not arrive within `timeout_s`.

    `place` is the ``schema.prefix`` of its tables.
    """

    def __init__(self, conninfo: str, place: str, *, timeout_s: float) -> None:
        self.conninfo = conninfo
        self.place = place
        self.timeout_s = timeout_s
        #: How long a call waits for each lock, in ms.
        self.lock_timeout = str(max(1, int(_LOCK_SHARE * timeout_s * 1000))).encode()
        #: The name in error messages.
        self.name = _name(conninfo)
        self.home: Server = self
        #: The number of answered calls that carried claims. The circuit breaker counts calls, but it sees claims.
        self.answered_calls = 0
        #: Whether prepared statements get lost, because a pooler gives each transaction any connection.
        self.is_pooled = False

    def open(self, deadline: Deadline) -> "pq.abc.PGconn":
        """A new connection. Nothing waits longer than `deadline`. Raises CLIENT_ERRORS."""
        connection = pq.PGconn.connect_start(self.conninfo.encode())
        try:
            while (status := connection.connect_poll()) != pq.PollingStatus.OK:
                if status == pq.PollingStatus.FAILED:
                    _raise_failure(connection)
                await_socket(connection.socket, deadline, writing=status == pq.PollingStatus.WRITING)
            connection.nonblocking = 1
            deadline.resume()
        except BaseException:
            connection.finish()
            raise
        return connection

    def migrate_within(self, seconds: float) -> None:
        """`migrate` in a thread, which goes on if this raises TimeoutError after `seconds`."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self.migrate()
            except BaseException as error:  # it belongs to the caller
                errors.append(error)

        thread = threading.Thread(target=run, name="awx_ratelimit migration", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise TimeoutError
        for error in errors:
            raise error

    def migrate(self) -> None:
        """Create or update tables and functions. Several processes may do so at the same time. Raises CLIENT_ERRORS."""
        versions = versions_table(self.place)
        schema = f'"{self.place.partition(".")[0]}"'
        with psycopg.connect(self.conninfo, connect_timeout=_MIGRATION_S, prepare_threshold=None) as connection:
            # At stricter levels, what other processes created while this one waited for the lock would stay invisible.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            connection.execute(f"SET LOCAL lock_timeout = '{_MIGRATION_S}s'")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_number(self.place),))
            (exists,) = _one(connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (schema,)))
            if not exists:
                connection.execute(f"CREATE SCHEMA {schema}".encode())
            connection.execute(f"CREATE TABLE IF NOT EXISTS {versions} (version integer PRIMARY KEY)".encode())
            (known,) = _one(connection.execute(f"SELECT coalesce(max(version), 0) FROM {versions}".encode()))  # noqa: S608  # a checked name
            for version in range(known + 1, VERSION + 1):
                connection.execute(migration(self.place, version).encode())
                connection.execute(f"INSERT INTO {versions} VALUES ({version})".encode())  # noqa: S608  # a checked name

    def explain(self, error: BaseException) -> BackendUnavailable:
        """`error` with the name of the server and a remedy for its operator."""
        if isinstance(error, BackendUnavailable):
            return error
        text = (str(error) or type(error).__name__).partition("\n")[0]
        if isinstance(error, TimeoutError):
            return BackendUnavailable(f"postgresql at {self.name} did not answer within {self.timeout_s * 1000:g} ms")
        if isinstance(error, Refusal) and error.is_locked:
            return locked_error(f"postgresql at {self.name}: a record")
        code = error.code if isinstance(error, Refusal) else getattr(error, "sqlstate", None) or ""
        if code.startswith(CORRUPTION_CODES):
            return StateDamaged(f"postgresql at {self.name}: a record is corrupt; reset its subject ({text})")
        remedy = _REMEDIES.get(code) or _REMEDIES.get(code[:2])
        if not code:
            remedy = next((advice for sign, advice in _TEXTS if sign in text), None)
        if remedy:
            return BackendMisconfigured(f"postgresql at {self.name}: {remedy} ({text})")
        return BackendUnavailable(f"postgresql at {self.name}: {text}")


def await_socket(socket: int, deadline: Deadline, *, writing: bool = False) -> None:
    """Wait until a socket can be read or written. Raises TimeoutError."""
    await_poller(new_poller(socket, writing=writing), deadline)


def new_poller(socket: int, *, writing: bool = False) -> select.poll:
    """Waits for a socket that can be read or written."""
    # Looked up when it is used, because gevent replaces it.
    poller = select.poll()
    poller.register(socket, select.POLLOUT if writing else select.POLLIN)
    return poller


def await_poller(poller: select.poll, deadline: Deadline) -> None:
    """Wait for what `poller` waits for. Raises TimeoutError."""
    while not poller.poll(deadline.wait_s() * 1000):
        if deadline.is_over():
            raise TimeoutError


def server_at(url: str, place: str, *, timeout_ms: int) -> Server:
    """The server at `url`. Raises ValueError for a wrong URL, without its text, which may hold a password."""
    try:
        conninfo = make_conninfo(url, application_name=conninfo_to_dict(url).get("application_name", "awx-ratelimit"))
    except psycopg.ProgrammingError:
        raise ValueError(
            "postgresql URL: expected postgresql://user@host:5432/database, optionally with ?options of libpq; write "
            "special characters as %20"
        ) from None
    return Server(conninfo, place, timeout_s=timeout_ms / 1000)


def _name(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    port = f":{parts['port']}" if "port" in parts else ""
    return f"{host}{port}/{parts.get('dbname', '')}"


def _one(cursor: Any) -> Any:
    return cursor.fetchone()


def _raise_failure(connection: Any) -> NoReturn:
    raise psycopg.OperationalError(connection.error_message.decode(errors="replace").strip())


def close_quietly(connection: Any) -> None:
    """Close a connection without waiting for the server."""
    with contextlib.suppress(psycopg.Error):
        connection.finish()
