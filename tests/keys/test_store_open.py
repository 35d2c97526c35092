"""How a store comes to be: addresses, drivers, the versions of its tables."""

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

_OPEN = "import sys; from awx_ratelimit.keys import KeyStore; sys.stdin.read(); KeyStore.open(sys.argv[1]).close()"


def _raw(address: str, statement: str) -> list[tuple[object, ...]]:
    """What the database itself answers."""
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
def test_addresses(address: str | Path, expected: str) -> None:
    """A path is a file; a URL says SQLite or PostgreSQL, whichever driver it names."""
    assert parse_url(address).render_as_string() == expected


@pytest.mark.parametrize(
    "address", ["mysql://u:secret@h/d", "http://u:secret@h", "://u:secret@h", "postgresql://u:secret@h:x/d"]
)
def test_addresses_that_are_none(address: str) -> None:
    """Any other URL is refused with what is allowed, and its password is not in the error."""
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
def test_a_store_does_not_show_its_password(address: str, shown: str) -> None:
    """Neither the repr nor an error has the password of the URL, wherever in it that stands."""
    with pytest.raises(KeyStoreUnavailable) as caught:
        KeyStore.open(address, timeout_ms=500)

    assert "secret" not in str(caught.value)
    assert f"the key store {shown} does not answer" in str(caught.value)


def _without(module: str, name: str) -> str:
    """What importing `name` says, in a process that does not have `module`."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom awx_ratelimit.keys import KeyFormat, redact_event\n"
        f"try:\n    from awx_ratelimit.keys import {name}\n    {name}.open('postgresql://h/d')\n"
        "except ImportError as error:\n    print(error)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.parametrize("name", ["KeyStore", "KeyService", "KeyVerifier", "Accounts"])
def test_what_needs_the_extra_says_so(name: str) -> None:
    """Without SQLAlchemy, what needs it names the line to install it; how a key looks needs nothing."""
    assert (
        _without("sqlalchemy", name) == f"{name} needs SQLAlchemy; install it with: pip install 'awx-ratelimit[keys]'\n"
    )


def test_postgresql_needs_its_driver() -> None:
    """Without psycopg, a store on PostgreSQL names the line to install it."""
    expected = "a key store on PostgreSQL needs psycopg; install it with: pip install 'awx-ratelimit[postgres]'\n"

    assert _without("psycopg", "KeyStore") == expected


def test_tables_are_made_as_statements_are_written_against_them(empty_database: str) -> None:
    """What the migrations make has the columns of the schema, in name, order and whether they may be empty."""
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
    # SQLite calls a TEXT key of a table nullable; there is none that is.
    loose = {name: [(c, n and c not in {"id", "number"}) for c, n in columns] for name, columns in made.items()}
    assert loose == expected
    assert keys == {("key_hash",)}


def test_opened_again_nothing_is_made(empty_database: str) -> None:
    """A store that is up to date is left as it is, with what is in it."""
    first = KeyStore.open(empty_database)
    KeyService(first).accounts.create("acme")
    first.close()
    second = KeyStore.open(empty_database)
    second.migrate()

    assert second.query(queries.account, "acme") is not None
    assert _versions(empty_database) == [1]
    second.close()


def test_workers_that_start_at_once_make_the_tables_once(empty_database: str) -> None:
    """Several processes that open an empty store at the same moment all succeed, and its version is written once."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, empty_database], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    ended = [(worker.wait(30), worker.stderr.read() if worker.stderr else "") for worker in workers]
    for worker in workers:
        assert worker.stderr is not None
        worker.stderr.close()

    assert ended == [(0, "")] * 6
    assert _versions(empty_database) == [1]


def test_threads_that_start_at_once_make_the_tables_once(empty_database: str) -> None:
    """Threads that have all seen an empty store wait for one another, and all but the first find it done."""
    barrier, made, failed = Barrier(5), [], []

    def work() -> None:
        engines = open_engines(parse_url(empty_database), 10_000)

        @event.listens_for(engines.writing, "checkout")
        def together(*_: object) -> None:
            barrier.wait(5)

        store = KeyStore(engines, "test", 10_000)
        try:
            store.migrate()
            made.append(store.query(queries.account, "x"))
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
    assert _versions(empty_database) == [1]


def test_a_new_file_is_waited_for(tmp_path: Path) -> None:
    """Whoever writes a file that is no store yet is waited for: a worker that starts beside another does not die."""
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
    assert _versions(address) == [1]


def test_a_later_version_is_added_to_what_is_there(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer code brings an older store on, step by step, and keeps what is in it."""
    old = KeyStore.open(empty_database)
    KeyService(old).accounts.create("acme", plan="growth")
    old.close()
    later = (("ALTER TABLE awx_accounts ADD COLUMN note TEXT",), ("UPDATE awx_accounts SET note = 'x'",))
    monkeypatch.setattr(versions, "MIGRATIONS", (*versions.MIGRATIONS, *later))
    monkeypatch.setattr("awx_ratelimit.keys.storage.store.MIGRATIONS", versions.MIGRATIONS)
    KeyStore.open(empty_database).close()

    assert _versions(empty_database) == [1, 2, 3]
    assert _raw(empty_database, "SELECT id, plan, note FROM awx_accounts") == [("acme", "growth", "x")]


def test_a_version_that_fails_leaves_the_one_before(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is made whole or not at all, and the next start tries it again."""
    KeyStore.open(empty_database).close()
    bad = ("ALTER TABLE awx_accounts ADD COLUMN note TEXT", "ALTER TABLE nothing ADD COLUMN note TEXT")
    monkeypatch.setattr(versions, "MIGRATIONS", (*versions.MIGRATIONS, bad))
    monkeypatch.setattr("awx_ratelimit.keys.storage.store.MIGRATIONS", versions.MIGRATIONS)
    with pytest.raises(KeyStoreUnavailable, match="nothing"):
        KeyStore.open(empty_database)

    engine = create_engine(parse_url(empty_database))
    columns = [column["name"] for column in inspect(engine).get_columns("awx_accounts")]
    engine.dispose()
    assert _versions(empty_database) == [1]
    assert "note" not in columns


def test_a_newer_store_is_refused(empty_database: str) -> None:
    """Code that does not know a store's version says both versions and what to do, and changes nothing."""
    KeyStore.open(empty_database).close()
    _raw(empty_database, "INSERT INTO awx_schema_versions (version, at_ms) VALUES (7, 0)")
    expected = (
        "the key store has schema version 7, and this release supports versions up to 1; install a newer awx-ratelimit"
    )
    with pytest.raises(KeyStoreUnusable, match=expected):
        KeyStore.open(empty_database)

    assert _versions(empty_database) == [1, 7]


def test_tables_of_the_application_are_not_touched(empty_database: str) -> None:
    """A store lives in an application's own database: tables with the plain names are the application's."""
    _raw(empty_database, "CREATE TABLE accounts (id INTEGER)")
    _raw(empty_database, "INSERT INTO accounts VALUES (7)")
    store = KeyStore.open(empty_database)
    KeyService(store).accounts.create("acme")
    store.close()

    assert _raw(empty_database, "SELECT id FROM accounts") == [(7,)]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of something else is named, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes, and no database at all. " * 100)
    with pytest.raises(KeyStoreUnusable, match=r"notes\.txt does not answer: file is not a database; restore a backup"):
        KeyStore.open(path)

    assert path.read_bytes().startswith(b"these are notes")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path that cannot be opened is in the error."""
    with pytest.raises(KeyStoreUnavailable, match=r"missing/keys\.db does not answer: unable to open database file"):
        KeyStore.open(tmp_path / "missing" / "keys.db")


def test_a_file_is_written_ahead(tmp_path: Path) -> None:
    """SQLite's readers go on while one writes."""
    KeyStore.open(tmp_path / "keys.db").close()
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()

    assert mode == ("wal",)


def test_a_store_in_memory_is_one_for_all_threads() -> None:
    """`sqlite://` is a store that lives as long as it is open, and every thread sees the same."""
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


def test_a_relative_path_is_one_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is opened by default at keys.db in the folder where the process runs."""
    monkeypatch.chdir(tmp_path)
    KeyStore.open().close()

    assert [path.name for path in tmp_path.iterdir()] == ["keys.db"]


def test_a_connection_in_use_is_closed_when_it_comes_back_to_a_closed_store(empty_database: str) -> None:
    """A look-up may be under way when its store is closed."""
    store = KeyStore.open(empty_database)
    closed: list[object] = []
    event.listen(store._engines.reading, "close", lambda connection, _: closed.append(connection))
    with store._engines.reading.connect() as connection:
        used = connection.connection.dbapi_connection
        store.close()
        before = used in closed

    assert before is False
    assert used in closed
