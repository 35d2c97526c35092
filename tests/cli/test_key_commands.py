"""The command: a key's life for whoever runs the store, one line for what goes wrong, and a scan that tells no key."""

from pathlib import Path

import pytest
from tests.cli.conftest import Run

from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore

KEY = KeyFormat().new().reveal()


def test_a_new_key_is_alone_on_stdout(keys: Run, service: KeyService) -> None:
    """So that a shell can take it; what is said of it, its id and its masked form, is on stderr."""
    ran = keys("create", "production-backend", "--account", "acme")
    key = service.list("acme").items[0]

    assert ran.status == 0
    assert ran.out[-5:-1] == key.masked[-4:]
    assert KeyFormat().is_key(ran.out.rstrip("\n")) is True
    assert key.name == "production-backend"
    assert f"{key.id} ({key.masked}) of acme" in ran.err
    assert ran.out.strip() not in ran.err


def test_a_new_key_as_json(keys: Run, service: KeyService) -> None:
    """With all that is known of it, and the key."""
    ran = keys("create", "n", "--account", "acme", "--expires-in-days", "30", "--json")
    key = service.list("acme").items[0]

    assert ran.status == 0
    assert ran.err == ""
    assert ran.json["id"] == key.id
    assert KeyFormat().is_key(ran.json["key"]) is True
    assert ran.json["status"] == "active"
    assert ran.json["expires_at"] > ran.json["created_at"]


def test_an_account_is_made_where_that_is_asked_for(keys: Run, service: KeyService) -> None:
    """A mistyped account is an error; with --plan it is made, and one that is there is left as it is."""
    refused = keys("create", "n", "--account", "acne")
    made = keys("create", "n", "--account", "new", "--plan", "growth")
    keys("create", "n", "--account", "acme", "--plan", "growth")

    assert refused.status == 2
    assert refused.err == "error: account: there is no such account; give --plan to make it, too\n"
    assert made.status == 0
    assert service.accounts.get("new").plan == "growth"
    assert service.accounts.get("acme").plan == "starter"


def test_keys_are_listed(keys: Run, service: KeyService) -> None:
    """As a table with what brackets are in a name, and as JSON, all of them."""
    for number in range(101):
        service.accounts.set_max_keys("acme", 200)
        service.create("acme", f"[red]n{number}")
    shown = keys("list", "--account", "acme")
    listed = keys("list", "--account", "acme", "--json").json["data"]

    assert len(shown.out.splitlines()) == 102
    assert "[red]n7 " in shown.out
    assert "never" in shown.out
    assert len(listed) == 101
    assert listed[0]["prefix"] == service.list("acme").items[0].masked
    assert listed[0]["last_used_at"] is None


def test_a_key_is_rotated_and_revoked(keys: Run, service: KeyService) -> None:
    """The successor is printed, the old one ends with its grace; a revoked key is gone; who did it is in the trail."""
    old = service.create("acme", "n").key
    new = keys("rotate", old.id, "--account", "acme", "--grace-seconds", "0")
    gone = keys("revoke", old.id, "--account", "acme")
    again = keys("revoke", old.id, "--account", "acme")
    actors = {event.actor for event in service.events("acme").items[:3]}

    assert new.status == 0
    assert KeyFormat().is_key(new.out.strip()) is True
    assert gone.status == 0
    assert gone.err == f"{old.id} is revoked\n"
    assert again.status == 2
    assert again.err == "error: the account has no such key; list the account's keys\n"
    assert {actor and actor.split(":")[0] for actor in actors} == {"cli"}


def test_old_and_idle_keys_are_found(keys: Run, service: KeyService, store: KeyStore) -> None:
    """Over all accounts or in one; without --days after 90 days and after 30."""
    service.accounts.create("other")
    ids = {account: service.create(account, "n").key.id for account in ("acme", "other")}
    stale, unused = (keys(command, "--days", "0", "--json") for command in ("stale", "unused"))
    of_one = keys("stale", "--days", "0", "--account", "other", "--json")
    none = [keys(command, "--json").json["data"] for command in ("stale", "unused")]

    assert [{key["id"] for key in ran.json["data"]} for ran in (stale, unused, of_one)] == [
        set(ids.values()), set(ids.values()), {ids["other"]},
    ]  # fmt: skip
    assert none == [[], []]


def test_a_plan_is_set(keys: Run, service: KeyService, tmp_path: Path) -> None:
    """And where a table is named it has to be in it."""
    table = tmp_path / "plans.toml"
    table.write_text("[plans.gold]\nper_minute = 5\n")
    done = keys("set-plan", "gold", "--account", "acme", "--plans", str(table), "--json")
    refused = keys("set-plan", "golden", "--account", "acme", "--plans", str(table))

    assert done.status == 0
    assert done.json["plan"] == "gold"
    assert service.accounts.get("acme").plan == "gold"
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    assert "allowed are gold" in refused.err


def test_an_account_gets_numbers_of_its_own(keys: Run, service: KeyService, tmp_path: Path) -> None:
    """As a plan table has them, and checked against it; null takes them back."""
    table = tmp_path / "plans.toml"
    table.write_text("[plans.starter]\nper_minute = 5\n")
    given = keys("set-overrides", '{"per_minute": 7}', "--account", "acme", "--plans", str(table), "--json")
    kept = service.accounts.get("acme").overrides
    refused = [
        keys("set-overrides", text, "--account", "acme", "--plans", str(table)).err
        for text in ("{", "7", '{"per_minute": 0}', '{"per_month": 1}')
    ]
    back = keys("set-overrides", "null", "--account", "acme")

    assert given.status == 0
    assert given.json["overrides"] == {"per_minute": 7}
    assert kept == {"per_minute": 7}
    assert [err.count("\n") for err in refused] == [1] * 4, refused
    assert back.status == 0
    assert service.accounts.get("acme").overrides is None


def test_keys_of_another_form(keys: Run, store: KeyStore, service: KeyService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix and the pepper of the app are those of its keys, or it would not know them."""
    monkeypatch.setenv("AWX_KEY_PEPPER", "a pepper of many bytes")
    key = keys("create", "n", "--account", "acme", "--prefix", "awx_test_").out.strip().encode()
    form = KeyFormat("awx_test_", pepper=b"a pepper of many bytes")

    assert form.is_key(key) is True
    assert store.look_up(form.digest(key)) is not None


def test_a_key_in_the_wrong_place_is_not_told_back(keys: Run, service: KeyService) -> None:
    """Whatever is wrong with it."""
    runs = [keys("create", f"my {KEY}", "--account", "acme"), keys("create", "n", "--account", KEY),
            keys("revoke", KEY, "--account", "acme"), keys("set-plan", KEY, "--account", "acme"),
            keys("create", "n", KEY, "--account", "acme"), keys(KEY), keys("list", f"--{KEY}"),
            keys("stale", f"--days={KEY}")]  # fmt: skip

    assert [(ran.status, KEY[4:30] in ran.out + ran.err) for ran in runs] == [(2, False)] * 8
