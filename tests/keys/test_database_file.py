"""The file of a key store on SQLite is private, and files that other users can change are refused."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.strangers import make_foreign

from awx_ratelimit.errors import KeyStoreUnusable
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage import queries


def modes(folder: Path) -> dict[str, int]:
    """The mode of each file in `folder`."""
    return {file.name: stat.S_IMODE(file.lstat().st_mode) for file in folder.iterdir()}


@pytest.mark.parametrize("address", ["{}/keys.db", "sqlite:///{}/keys.db", "sqlite:///file:{}/keys.db?uri=true"])
@pytest.mark.parametrize("umask", [0, 0o022])
def test_files_are_private(tmp_path: Path, address: str, umask: int) -> None:
    """The database and the two files that SQLite keeps next to it have mode 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        store = KeyStore.open(address.format(tmp_path))
        KeyService(store).accounts.create("acme")
        seen = modes(tmp_path)
        store.close()
    finally:
        os.umask(before)

    assert seen == {"keys.db": 0o600, "keys.db-wal": 0o600, "keys.db-shm": 0o600}


def test_recreated_file_is_private(tmp_path: Path) -> None:
    """A database that was removed while its store exists is created again with mode 0600."""
    store = KeyStore.open(tmp_path / "keys.db")
    store.close()
    for file in tmp_path.iterdir():
        file.unlink()
    before = os.umask(0)
    try:
        store.migrate()
    finally:
        os.umask(before)
    store.close()

    assert modes(tmp_path)["keys.db"] == 0o600


def link(path: Path) -> None:
    """Create a link to a database of this user."""
    KeyStore.open(path.with_name("elsewhere.db")).close()
    path.symlink_to("elsewhere.db")


def writable(path: Path) -> None:
    """Create a database that others can write."""
    KeyStore.open(path).close()
    path.chmod(0o666)


def journal(path: Path) -> None:
    """Create a database with a journal that others can write; SQLite would play it back."""
    KeyStore.open(path).close()
    beside = path.with_name("keys.db-journal")
    beside.touch()
    beside.chmod(0o666)


@pytest.mark.parametrize(
    ("make", "why"),
    [(link, "it is a symbolic link"), (writable, "other users can write it"), (journal, "keys.db-journal: other")],
)
def test_file_that_others_can_change(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    """A file to which another user could add keys is refused; the error names the file and the reason."""
    make(tmp_path / "keys.db")
    with pytest.raises(KeyStoreUnusable) as raised:
        KeyStore.open(tmp_path / "keys.db")

    assert why in str(raised.value)
    assert str(tmp_path / "keys.db") in str(raised.value)


@pytest.mark.parametrize("how", ["argument", "url"])
def test_file_of_another_user(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's file is refused, unless `allow_other_users` says that this user is trusted."""
    path = tmp_path / "keys.db"
    KeyStore.open(path).close()
    make_foreign(path, monkeypatch)
    with pytest.raises(KeyStoreUnusable, match=r"it belongs to user .*allow_other_users"):
        KeyStore.open(path)

    if how == "argument":
        store = KeyStore.open(path, allow_other_users=True)
    else:
        store = KeyStore.open(f"sqlite:///{path}?allow_other_users=true")
    assert store.query(queries.account, "acme", 0) is None
    store.close()


def test_invalid_option(tmp_path: Path) -> None:
    """The error names the allowed values."""
    with pytest.raises(ValueError, match="allow_other_users: expected true or false, got 'yes'"):
        KeyStore.open(f"sqlite:///{tmp_path}/keys.db?allow_other_users=yes")
