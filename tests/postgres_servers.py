"""A PostgreSQL server for tests: started on first use, fast instead of durable, and always stopped."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from awx_ratelimit.backends.postgres import PostgresBackend
from awx_ratelimit.keys import KeyStore
from awx_ratelimit.keys.storage.schema import METADATA

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
#: Data need not survive a power cut, and many threads connect at once.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    # Tables are small and do not live long.
    "autovacuum": "off",
}
#: Ends the server and its children when its input is closed: by `stop`, or because the tests were killed.
_GUARD = """
import os, signal, sys
sys.stdin.read()
try:
    os.kill(int(sys.argv[1]), signal.SIGQUIT)
except ProcessLookupError:
    pass
"""


class Postgres:
    """A server that listens on a socket in its own folder."""

    def __init__(self, folder: Path, primary: "Postgres | None" = None) -> None:
        """With a `primary`, it is its standby, and follows it from its start on."""
        self.folder = folder
        self._programs = _programs()
        # The server refuses to run as root.
        self._owner: dict[str, Any] = unprivileged() if os.geteuid() == 0 else {}
        if self._owner:
            os.chown(folder, self._owner["user"], self._owner["group"])
        self._names = count()
        self._shared: str | None = None
        #: A new connection would take most of the time of emptying, because it reads the catalog again.
        self._emptying: dict[str, psycopg.Connection[Any]] = {}
        self._limits: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        if primary:
            self._run("pg_basebackup", "--write-recovery-conf", "--no-sync", "--checkpoint=fast",
                      f"--host={primary.folder}", "--username=awx")  # fmt: skip
            return
        self._run("initdb", "--auth=trust", "--username=awx", "--no-sync", "--no-instructions", "--encoding=UTF8")

    def url(self, database: str) -> str:
        """The address of a database for a key store."""
        return f"postgresql://awx@/{database}?host={self.folder}"

    def new_database(self, options: str = "") -> str:
        """Create an empty database, and return its name."""
        name = f"keys_{next(self._names)}"
        self._execute(f"CREATE DATABASE {name} {options}")
        return name

    def emptied_store(self) -> str:
        """The address of the database that most tests share, with empty tables."""
        if self._shared is None:
            self._shared = self.new_database()
            KeyStore.open(self.url(self._shared)).close()
        # In reverse order, because of the foreign keys. TRUNCATE takes ten times as long.
        statements = [f"DELETE FROM {table}" for table in reversed(METADATA.tables)]
        counting = ("awx_api_key_events", "awx_key_changes")
        statements += [f"SELECT setval(pg_get_serial_sequence('{table}', 'number'), 1, false)" for table in counting]
        self._empty(self._shared, statements)
        return self.url(self._shared)

    def emptied_limits(self) -> str:
        """The address of the database for limits that tests share, without any."""
        if self._limits is None:
            self._limits = self.new_database()
            PostgresBackend.from_url(self.url(self._limits)).close()
        # TRUNCATE takes ten times as long.
        statements = [f"DELETE FROM awx.limits_{name}" for name in ("records", "open_claims", "steps", "notes")]
        self._empty(self._limits, statements)
        return self.url(self._limits)

    def _empty(self, database: str, statements: list[str]) -> None:
        if database not in self._emptying:
            self._emptying[database] = psycopg.connect(self.url(database), autocommit=True)
        self._emptying[database].execute("; ".join(statements).encode())

    def drop(self, database: str) -> None:
        """Remove a database, even if clients are still connected to it."""
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", f"{self.folder}/data", "-k", str(self.folder), *settings]
        with (self.folder / "log.txt").open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._owner
            )
        self._process = process
        guarding = [sys.executable, "-I", "-S", "-c", _GUARD, str(process.pid)]
        self._guard = subprocess.Popen(guarding, stdin=subprocess.PIPE, start_new_session=True)
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > until or process.poll() is not None:
                pytest.fail(f"PostgreSQL did not start:\n{(self.folder / 'log.txt').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server: connections are closed, committed data is kept."""
        assert self._process is not None
        assert self._guard is not None
        while self._emptying:
            self._emptying.popitem()[1].close()
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self._guard.communicate()
        self._process.wait()

    def crash(self) -> None:
        """End the server at once, and start it again: tables that are not logged are empty then."""
        assert self._process is not None
        assert self._guard is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        self._guard.communicate()
        self.start()

    def kill(self) -> None:
        """End the server at once, with all its processes."""
        assert self._process is not None
        assert self._guard is not None
        for pid in self.pids():
            _signal([pid], signal.SIGKILL)
        self._process.wait()
        self._guard.communicate()

    def pids(self) -> list[int]:
        """Its processes: one for each connection, and others."""
        assert self._process is not None
        return [self._process.pid, *_children(self._process.pid)]

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """A server that accepts connections and never responds, during a block."""
        pids = self.pids()
        try:
            _signal(pids, signal.SIGSTOP)
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            self._execute("SELECT 1")
            return True
        return False

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), "-D", f"{self.folder}/data", *words]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False, **self._owner
        )
        if done.returncode:
            pytest.fail(f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server that all tests share; a test that stops it starts it again."""
    with running_postgres() as server:
        yield server


@contextmanager
def running_postgres(primary: Postgres | None = None) -> Iterator[Postgres]:
    """A running server, or a standby of `primary`. Its processes and files are always removed afterwards."""
    # Not pytest's folder: the server's user cannot enter it, and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="awx-pg-"))
    try:
        server = Postgres(folder, primary)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """The folder of the server's programs, which Debian keeps outside PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.fail("PostgreSQL's server is needed: install Debian's package postgresql")
    return Path(initdb).parent


def unprivileged() -> dict[str, Any]:
    """Arguments of Popen for a user who is not root."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.fail("PostgreSQL's server cannot run as root, and there is no user postgres or nobody")


def _signal(pids: list[int], number: int) -> None:
    """Send a signal to those of these processes that still exist: a server ends the processes of closed connections."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return [child for child, parent in parents.items() if parent == pid]
