"""How a store is opened: addresses, drivers and the versions of its tables."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy import ExceptionContext, create_engine, event, inspect, text

from awx_ratelimit.errors import KeyStoreUnavailable, KeyStoreUnusable
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage import migrations as versions
from awx_ratelimit.keys.storage import queries
from awx_ratelimit.keys.storage.engine import open_engines, parse_url
from awx_ratelimit.keys.storage.schema import METADATA

#: Loads everything once. Then four processes open the store when the pipe is closed.
_OPEN = """
import os, sys, psycopg
from awx_ratelimit.keys import KeyStore

KeyStore.open("sqlite://").close()
wait, go = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.close(go)
        os.read(wait, 1)
        KeyStore.open(sys.argv[1]).close()
        sys.exit()
os.close(go)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4)])
"""


def _raw(address: str, statement: str) -> list[tuple[object, ...]]:
    """Run a statement in the database itself."""
    engine = create_engine(parse_url(address))
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def _versions(address: str) -> list[int]:
    return [int(str(row[0])) for row in _raw(address, "SELECT version FROM awx_schema_versions ORDER BY version")]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("keys.db", "sqlite:///keys.db"),
        (Path("/var/lib/keys.db"), "sqlite:////var/lib/keys.db"),
        ("sqlite:////var/lib/keys.db", "sqlite:////var/lib/keys.db"),
        ("sqlite+pysqlite:///keys.db", "sqlite:///keys.db"),
        ("postgresql://u:p@h:5433/d?sslmode=require", "postgresql+psycopg://u:***@h:5433/d?sslmode=require"),
        ("postgres://h/d", "postgresql+psycopg://h/d"),
    ],
)
def test_address(address: str | Path, expected: str) -> None:
    """A path names a file; a URL names SQLite or PostgreSQL, with any of their drivers."""
    assert parse_url(address).render_as_string() == expected


@pytest.mark.parametrize(
    "address",
    [
        "mysql://u:secret@h/d",
        "http://u:secret@h",
        "://u:secret@h",
        "postgresql://u:secret@h:x/d",
        "postgresql://u:pa@secret@h/d",
        "postgresql://u:pa/x@secret@h:5432/d",
    ],
)
def test_invalid_address(address: str) -> None:
    """Any other URL is refused with what is allowed, and the error does not contain its password."""
    with pytest.raises(
        ValueError, match=r"expected a path, sqlite:///path or postgresql://user@host/database"
    ) as caught:
        parse_url(address)

    assert "secret" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("address", "shown"),
    [("postgresql://ada:secret@127.0.0.1:1/keys?connect_timeout=2", "postgresql+psycopg://ada:***@127.0.0.1:1/keys"),
     ("postgresql://ada@127.0.0.1:1/keys?password=secret", "postgresql+psycopg://ada@127.0.0.1:1/keys"),
     ("postgresql://ada@127.0.0.1:1/keys?sslpassword=secret", "postgresql+psycopg://ada@127.0.0.1:1/keys")],
)  # fmt: skip
def test_password_is_hidden(address: str, shown: str) -> None:
    """Neither the repr nor an error contains the password, wherever it is in the URL."""
    with pytest.raises(KeyStoreUnavailable) as caught:
        KeyStore.open(address, timeout_ms=500)

    assert "secret" not in str(caught.value)
    assert f"the key store {shown} does not answer" in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    """A path in a folder that does not exist is one error that names the folder."""
    path = tmp_path / "missing" / "keys.db"
    with pytest.raises(KeyStoreUnusable) as caught:
        KeyStore.open(path)

    folder = tmp_path / "missing"
    assert str(caught.value) == f"the key store {path} cannot be used: there is no folder {folder}; create it first"
    assert caught.value.__cause__ is None
    assert not folder.exists()


def _without(module: str, *names: str) -> dict[str, str]:
    """The error of each of these names of `awx_ratelimit.keys` in a process where `module` is missing."""
    code = f"""
import sys
sys.modules[{module!r}] = None
from awx_ratelimit import keys
from awx_ratelimit.keys import KeyFormat, redact_event
for name in {names!r}:
    try:
        getattr(keys, name).open("postgresql://h/d")
    except ImportError as error:
        print(name, error, sep="|")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return dict(line.split("|") for line in done.stdout.splitlines())


def test_missing_sqlalchemy() -> None:
    """Without SQLAlchemy the error names the command that installs it; the format of keys works without it."""
    names = ("KeyStore", "KeyService", "KeyVerifier", "Accounts", "UsageHistory")

    assert _without("sqlalchemy", *names) == {
        name: f"{name} needs SQLAlchemy; install it with: pip install 'awx-ratelimit[keys]'" for name in names
    }


def test_missing_psycopg() -> None:
    """Without psycopg a store on PostgreSQL raises an error that names the command that installs it."""
    expected = "a key store on PostgreSQL needs psycopg; install it with: pip install 'awx-ratelimit[postgres]'"

    assert _without("psycopg", "KeyStore") == {"KeyStore": expected}


def test_migrations_equal_the_schema(empty_database: str) -> None:
    """The migrated tables have the columns of the schema, with the same names, order and nullability."""
    KeyStore.open(empty_database).close()
    engine = create_engine(parse_url(empty_database))
    made = {
        table: [(column["name"], column["nullable"]) for column in inspect(engine).get_columns(table)]
        for table in METADATA.tables
    }
    keys = {
        tuple(sorted(str(one) for one in unique["column_names"]))
        for unique in inspect(engine).get_unique_constraints("awx_api_keys")
    }
    engine.dispose()

    expected = {
        name: [(c.name, c.nullable and not c.primary_key) for c in table.columns]
        for name, table in METADATA.tables.items()
    }
    # SQLite reports a TEXT primary key as nullable, although ours never is.
    loose = {name: [(c, n and c not in {"id", "number"}) for c, n in columns] for name, columns in made.items()}
    assert loose == expected
    assert keys == {("key_hash",)}


def test_open_again(empty_database: str) -> None:
    """Opening an up-to-date store changes nothing."""
    first = KeyStore.open(empty_database)
    KeyService(first).accounts.create("acme")
    first.close()
    second = KeyStore.open(empty_database)
    second.migrate()

    assert second.query(queries.account, "acme", 0) is not None
    assert _versions(empty_database) == [1, 2, 3, 4, 5, 6]
    second.close()


def test_concurrent_processes(empty_database: str) -> None:
    """Processes that open an empty store at the same moment all succeed, and create the tables once."""
    command = [sys.executable, "-c", _OPEN, empty_database]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (ended.stdout, ended.stderr) == ("[0, 0, 0, 0]\n", "")
    assert _versions(empty_database) == [1, 2, 3, 4, 5, 6]


def test_concurrent_threads(empty_database: str) -> None:
    """Threads that all saw an empty store wait for each other, and the tables are created once."""
    barrier, made, failed = Barrier(5), [], []

    def work() -> None:
        engines = open_engines(parse_url(empty_database), 10_000)

        @event.listens_for(engines.writing, "checkout")
        def together(*_: object) -> None:
            barrier.wait(5)

        store = KeyStore(engines, "test", 10_000)
        try:
            store.migrate()
            made.append(store.query(queries.account, "x", 0))
        except Exception as error:
            failed.append(error)
        store.close()

    threads = [Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert failed == []
    assert made == [None] * 5
    assert _versions(empty_database) == [1, 2, 3, 4, 5, 6]


def test_new_file_that_another_process_writes(tmp_path: Path) -> None:
    """A process waits while another one creates the same file."""
    address = str(tmp_path / "keys.db")
    engines = open_engines(parse_url(address), 10_000)
    writer = sqlite3.connect(address, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    refused = []

    @event.listens_for(engines.reading, "handle_error")
    def let_go(context: ExceptionContext) -> None:
        refused.append(str(context.original_exception))
        if writer.in_transaction:
            writer.execute("ROLLBACK")

    store = KeyStore(engines, "test", 10_000)
    store.migrate()
    store.close()
    writer.close()

    assert set(refused) == {"database is locked"}
    assert _versions(address) == [1, 2, 3, 4, 5, 6]


def test_upgrade(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer code upgrades an older store step by step, and keeps its rows."""
    old = KeyStore.open(empty_database)
    KeyService(old).accounts.create("acme", plan="growth")
    old.close()
    later = (("ALTER TABLE awx_accounts ADD COLUMN note TEXT",), ("UPDATE awx_accounts SET note = 'x'",))
    monkeypatch.setattr(versions, "MIGRATIONS", (*versions.MIGRATIONS, *later))
    monkeypatch.setattr("awx_ratelimit.keys.storage.store.MIGRATIONS", versions.MIGRATIONS)
    KeyStore.open(empty_database).close()

    assert _versions(empty_database) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert _raw(empty_database, "SELECT id, plan, note FROM awx_accounts") == [("acme", "growth", "x")]


def test_failed_migration(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed migration changes nothing, and the next start tries it again."""
    KeyStore.open(empty_database).close()
    bad = ("ALTER TABLE awx_accounts ADD COLUMN note TEXT", "ALTER TABLE nothing ADD COLUMN note TEXT")
    monkeypatch.setattr(versions, "MIGRATIONS", (*versions.MIGRATIONS, bad))
    monkeypatch.setattr("awx_ratelimit.keys.storage.store.MIGRATIONS", versions.MIGRATIONS)
    with pytest.raises(KeyStoreUnavailable, match="nothing"):
        KeyStore.open(empty_database)

    engine = create_engine(parse_url(empty_database))
    columns = [column["name"] for column in inspect(engine).get_columns("awx_accounts")]
    engine.dispose()
    assert _versions(empty_database) == [1, 2, 3, 4, 5, 6]
    assert "note" not in columns


def test_newer_store(empty_database: str) -> None:
    """Code that is older than the store names both versions and what to do, and changes nothing."""
    KeyStore.open(empty_database).close()
    _raw(empty_database, "INSERT INTO awx_schema_versions (version, at_ms) VALUES (8, 0)")
    expected = (
        "the key store has schema version 8, and this release supports versions up to 6; install a newer awx-ratelimit"
    )
    with pytest.raises(KeyStoreUnusable, match=expected):
        KeyStore.open(empty_database)

    assert _versions(empty_database) == [1, 2, 3, 4, 5, 6, 8]


def test_tables_of_the_application(empty_database: str) -> None:
    """A store in an application's database leaves tables with names such as `accounts` unchanged."""
    _raw(empty_database, "CREATE TABLE accounts (id INTEGER)")
    _raw(empty_database, "INSERT INTO accounts VALUES (7)")
    store = KeyStore.open(empty_database)
    KeyService(store).accounts.create("acme")
    store.close()

    assert _raw(empty_database, "SELECT id FROM accounts") == [(7,)]


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """The error names the file, which stays unchanged."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes, and no database at all. " * 100)
    with pytest.raises(KeyStoreUnusable, match=r"notes\.txt does not answer: file is not a database; restore a backup"):
        KeyStore.open(path)

    assert path.read_bytes().startswith(b"these are notes")


def test_write_ahead_log(tmp_path: Path) -> None:
    """Readers of SQLite continue during a write."""
    KeyStore.open(tmp_path / "keys.db").close()
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()

    assert mode == ("wal",)


def test_store_in_memory() -> None:
    """`sqlite://` is one store for all threads, for as long as it is open."""
    store = KeyStore.open("sqlite://")
    service = KeyService(store)
    service.accounts.create("acme")
    threads = [Thread(target=service.create, args=("acme", "n")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert service.list("acme").total == 8
    store.close()


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the store is keys.db in the working folder."""
    monkeypatch.chdir(tmp_path)
    KeyStore.open().close()

    assert [path.name for path in tmp_path.iterdir()] == ["keys.db"]


def test_close_during_a_look_up(empty_database: str) -> None:
    """A connection that is in use when the store is closed is closed when it is returned."""
    store = KeyStore.open(empty_database)
    closed: list[object] = []
    event.listen(store._engines.reading, "close", lambda connection, _: closed.append(connection))
    with store._engines.reading.connect() as connection:
        used = connection.connection.dbapi_connection
        store.close()
        before = used in closed

    assert before is False
    assert used in closed


def test_connection_of_a_pool_that_is_gone(tmp_path: Path) -> None:
    """A connection whose pool is disposed of while it is being made is closed when it is returned."""
    engine = open_engines(parse_url(tmp_path / "keys.db"), 1_000).reading
    event.listen(engine, "do_connect", lambda *_: engine.dispose(), once=True)

    with engine.connect() as connection:
        made = connection.connection.dbapi_connection

    assert made is not None
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        made.cursor()
    engine.dispose()
