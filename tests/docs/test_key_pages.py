"""The examples of docs/api-keys.md and docs/console.md do what the pages say."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import jwt
import pytest
from starlette.testclient import TestClient
from tests.docs.conftest import SECRET
from tests.docs.pages import blocks, run_first, run_text

from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.testing import ManualClock

DAY_MS = 86_400_000


def test_nightly_job() -> None:
    """Two runs of the job give each old key one successor, and leave a younger key alone."""
    store, clock, stored = KeyStore.open("sqlite://"), ManualClock(start_ms=DAY_MS), []
    keys = KeyService(store, clock=clock)
    keys.accounts.create("acct_acme")
    keys.create("acct_acme", "old")
    clock.advance(90 * DAY_MS)
    keys.create("acct_acme", "young")
    job = next(text for text in blocks("docs/api-keys.md", "python") if "keys.stale" in text)
    for _ in range(2):
        run_text(job, keys=keys, put=lambda name, key: stored.append((name, key)))
    kept = {(key.name, key.status) for key in keys.list("acct_acme").items}
    store.close()

    assert [name for name, _ in stored] == ["old"]
    assert stored[0][1][:4] == "awx_"
    assert kept == {("old", "rotated"), ("old", "active"), ("young", "active")}


def test_served_keys() -> None:
    """The app creates a key over HTTP with a token, admits it, and refuses it after it was deleted."""
    claims = {
        "iss": "https://login.example.com",
        "aud": "wallet-api",
        "sub": "acct_acme",
        "exp": int(time.time()) + 600,
    }
    token = {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}
    names = run_first("docs/api-keys.md")
    with TestClient(names["keys_app"]) as client:
        made = client.post("/api/v1/api-keys", json={"name": "production-backend"}, headers=token).json()
        key = {"X-API-Key": made["key"]}
        let_in = client.get("/v1/agents", headers=key)
        client.get("/v1/agents", headers=key)
        used = client.get("/api/v1/usage", headers=token).json()["data"][0]["limits"][0]["used"]
        gone = client.delete(f"/api/v1/api-keys/{made['id']}", headers=token).status_code
        refused = client.get("/v1/agents", headers=key)

    assert let_in.status_code == 200
    assert used == 2
    assert gone == 204
    assert refused.json()["code"] == "api_key_revoked"
    assert names["verifier"].health()["unwritten_uses"] == 0


def test_console() -> None:
    """The console serves logged-in users alone, and sends everybody else to the login."""
    names = run_first("docs/console.md")
    names["sessions"]["s1"] = names["Owner"]("acct_acme", "ann@acme.example")
    with TestClient(names["settings_app"], follow_redirects=False) as client:
        ann, nobody = (client.get("/console/", headers={"cookie": f"session={value}"}) for value in ("s1", "s2"))

    assert ann.status_code == 200
    assert (nobody.status_code, nobody.headers["location"]) == (303, "/login")


def _with_sqlite3(database: str, copy: str) -> None:
    """Run the command of the page, on the files that it names."""
    (line,) = [line for line in "".join(blocks("docs/api-keys.md", "sh")).splitlines() if line.startswith("sqlite3 ")]
    subprocess.run(shlex.split(line), check=True, timeout=60)
    assert (database, copy) == ("keys.db", "keys-backup.db")


def _with_python(database: str, copy: str) -> None:
    """Run the function of the page."""
    text = next(text for text in blocks("docs/api-keys.md", "python") if "def back_up" in text)
    run_text(text)["back_up"](database, copy)


def _restored(back_up: Callable[[str, str], object]) -> list[tuple[str, str]]:
    """The names and statuses of the keys after a restore. One of them was revoked after the backup."""
    used = KeyStore.open("keys.db")
    keys = KeyService(used)
    keys.accounts.create("acme")
    leaked = keys.create("acme", "leaked").key
    back_up("keys.db", "keys-backup.db")
    keys.create("acme", "younger")
    keys.revoke("acme", leaked.id)
    used.close()
    for name in ("keys.db-wal", "keys.db-shm"):
        Path(name).unlink(missing_ok=True)
    Path("keys-backup.db").replace("keys.db")
    with closing(KeyStore.open("keys.db")) as store:
        return [(key.name, key.status) for key in KeyService(store).list("acme").items]


@pytest.mark.parametrize(
    "back_up",
    [
        pytest.param(
            _with_sqlite3, marks=pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 here")
        ),
        _with_python,
    ],
)
def test_restored_backup(back_up: Callable[[str, str], None]) -> None:
    """A backup of a store in use has its keys; one that was revoked since works again, and one made since is gone."""
    assert _restored(back_up) == [("leaked", "active")]


def test_plain_copy() -> None:
    """A copy of the file alone opens without an error, and has no keys."""
    assert _restored(shutil.copy) == []
