"""Empty key stores on SQLite, without the migrations, which take longer than most tests."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from awx_ratelimit.keys import KeyStore
from awx_ratelimit.keys.storage.schema import METADATA


def new_file(folder: Path) -> str:
    """Create an empty store in a folder, in place of an older one, and return its address."""
    path = folder / "keys.db"
    for old in folder.glob("keys.db*"):
        old.unlink()
    path.touch(mode=0o600)
    path.write_bytes(_migrated())
    return f"sqlite:///{path}"


@cache
def _migrated() -> bytes:
    """The file of an empty store."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "keys.db"
        KeyStore.open(path).close()
        return path.read_bytes()


def empty(store: KeyStore) -> None:
    """Remove everything from a store, and begin to count from 1 again."""
    # In reverse order, because of the foreign keys.
    tables = [str(table) for table in reversed(METADATA.sorted_tables)]
    with store._engines.writing.begin() as connection:
        for table in (*tables, "sqlite_sequence"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
