"""The examples of docs/api-keys.md and docs/console.md do what the pages say."""

import time

import jwt
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
