"""``keys find``: whose key it is that a log shows."""

import pytest
from tests.cli.conftest import Run

from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore


@pytest.mark.parametrize("form", ["awx_...{last}", "...{last}", "awx_\u2026{last}", "{id}"])
def test_shown(keys: Run, service: KeyService, form: str) -> None:
    """What a log or the console shows of a key gives its account, its id and its state."""
    service.create("acme", "other")
    key = service.create("acme", "production").key
    ran = keys("find", form.format(last=key.masked[-4:], id=key.id), "--json")

    assert ran.status == 0
    [found] = ran.json["data"]
    assert (found["account_id"], found["id"], found["name"]) == ("acme", key.id, "production")
    assert (found["prefix"], found["status"], found["revoked_at"]) == (key.masked, "active", None)


def test_table(keys: Run, service: KeyService) -> None:
    """The table has the same."""
    key = service.create("acme", "production").key
    [head, row] = keys("find", key.masked).out.splitlines()

    assert head.split()[:6] == ["account", "id", "name", "key", "state", "created"]
    assert row.split()[:5] == ["acme", key.id, "production", key.masked, "active"]


def test_states(keys: Run, service: KeyService) -> None:
    """A revoked key is found too, and says when it was revoked; so is one of a suspended account."""
    service.accounts.create("other")
    revoked, suspended = service.create("acme", "n").key, service.create("other", "n").key
    service.revoke("acme", revoked.id)
    service.accounts.suspend("other")
    found = [keys("find", key.masked, "--json").json["data"][0] for key in (revoked, suspended)]

    assert [one["status"] for one in found] == ["revoked", "suspended"]
    assert found[0]["revoked_at"].endswith("Z")


def test_alike(keys: Run, service: KeyService, store: KeyStore) -> None:
    """All keys that are shown alike are found, of the accounts in order; those of another prefix are not."""
    service.accounts.create("other")
    key, same, different = (service.create(one, "n").key for one in ("other", "acme", "acme"))
    with store._engines.writing.begin() as connection:
        for one, prefix in ((same, "awx_"), (different, "awx_test_")):
            connection.exec_driver_sql(
                "UPDATE awx_api_keys SET last4 = ?, prefix = ? WHERE id = ?", (key.masked[-4:], prefix, one.id)
            )

    assert [one["id"] for one in keys("find", key.masked, "--json").json["data"]] == [same.id, key.id]
    assert len(keys("find", key.masked[-7:], "--json").json["data"]) == 3


def test_whole_key(keys: Run, service: KeyService) -> None:
    """A whole key is read from standard input, and printed nowhere."""
    created = service.create("acme", "n")
    text = created.secret.reveal()
    ran = keys("find", "-", "--json", stdin=f"{text}\n".encode())

    assert [one["id"] for one in ran.json["data"]] == [created.key.id]
    assert text not in ran.out + ran.err


def test_pepper(keys: Run, store: KeyStore, service: KeyService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole key is found by the pepper of the app."""
    pepper = "0123456789abcdef"
    created = KeyService(store, keys=KeyFormat("awx_test_", pepper=pepper.encode())).create("acme", "n")
    stdin = created.secret.reveal().encode()
    without = keys("find", "-", stdin=stdin)
    monkeypatch.setenv("AWX_KEY_PEPPER", pepper)

    assert without.status == 2
    assert keys("find", "-", "--json", stdin=stdin).json["data"][0]["id"] == created.key.id


def test_key_as_argument(keys: Run, service: KeyService) -> None:
    """A whole key as an argument is refused, because other users can read command lines, and is not repeated."""
    text = service.create("acme", "n").secret.reveal()
    ran = keys("find", text)

    assert ran.status == 2
    assert ran.out == ""
    assert "SHOWN: contains an API key; write '-', and give the key on standard input" in ran.err
    assert text[4:30] not in ran.err


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        ("awx_...zzzz", "no key of this store looks like that"),
        ("key_0123456789abcdef", "no key of this store looks like that"),
        ("awx_", "key: not what is shown of a key; expected the masked form of a key, such as awx_...x4f2, or the id"),
        ("awx_...", "key: not what is shown of a key"),
    ],
)
def test_mistakes(keys: Run, service: KeyService, shown: str, error: str) -> None:
    """No key, and a text that is no masked form, are errors on one line."""
    ran = keys("find", shown)

    assert ran.status == 2
    assert error in ran.err
    assert ran.err.count("\n") == 1
