"""``awx-ratelimit keys``: the life of a key, from the command line."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore
from awx_ratelimit.keys.storage import queries

KEY = KeyFormat().new().reveal()


class TestCreate:
    """``keys create``."""

    def test_stdout(self, keys: Run, service: KeyService) -> None:
        """The key is the only output on stdout, so a shell can store it."""
        ran = keys("create", "production-backend", "--account", "acme")
        key = service.list("acme").items[0]

        assert ran.status == 0
        assert KeyFormat().is_key(ran.out.rstrip("\n")) is True
        assert ran.out[-5:-1] == key.masked[-4:]
        assert key.name == "production-backend"

    def test_stderr(self, keys: Run, service: KeyService) -> None:
        """The message on stderr has the id and the masked key, and not the key."""
        ran = keys("create", "production-backend", "--account", "acme")
        key = service.list("acme").items[0]

        assert f"created {key.id} ({key.masked}) for acme" in ran.err
        assert ran.out.strip() not in ran.err

    def test_json(self, keys: Run, service: KeyService) -> None:
        """The JSON document has the key and its fields."""
        ran = keys("create", "n", "--account", "acme", "--expires-in-days", "30", "--json")

        assert ran.status == 0
        assert ran.err == ""
        assert ran.json["id"] == service.list("acme").items[0].id
        assert KeyFormat().is_key(ran.json["key"]) is True
        assert ran.json["status"] == "active"
        assert ran.json["expires_at"] > ran.json["created_at"]

    def test_unknown_account(self, keys: Run, service: KeyService) -> None:
        """An unknown account is an error that says how to create it."""
        ran = keys("create", "n", "--account", "acne")

        assert ran.status == 2
        assert ran.err.startswith("error: account: ")
        assert ran.err.endswith("; add --plan to create it. See docs/errors.md#account_not_found\n")

    def test_new_account(self, keys: Run, service: KeyService) -> None:
        """With --plan, an unknown account is created."""
        ran = keys("create", "n", "--account", "new", "--plan", "growth")

        assert ran.status == 0
        assert service.accounts.get("new").plan == "growth"

    def test_unchecked_plan(self, keys: Run, service: KeyService, tmp_path: Path) -> None:
        """Without a plan table, a line says that nobody checked the plan; with one, an unknown plan creates nothing."""
        table = tmp_path / "plans.toml"
        table.write_text("[plans.gold]\nper_minute = 50\n")
        unchecked = keys("create", "n", "--account", "new", "--plan", "golden")
        checked = keys("create", "n", "--account", "newer", "--plan", "gold", "--plans", str(table))
        unknown = keys("create", "n", "--account", "newest", "--plan", "golden", "--plans", str(table))

        assert "note: the plan 'golden' was not checked, because no plan table was given." in unchecked.err
        assert (
            "requests of the account get a 503. To check it, add --plans plans.toml, or set AWX_PLANS" in unchecked.err
        )
        assert "note:" not in checked.err
        assert unknown.status == 2
        assert "there is no plan 'golden'; allowed are gold" in unknown.err
        assert [one.id for one in service.accounts.list().items] == ["acme", "new", "newer"]

    def test_existing_account(self, keys: Run, service: KeyService) -> None:
        """--plan does not change an existing account: another plan is an error, and no key is created."""
        service.accounts.create("other")
        ran = keys("create", "n", "--account", "acme", "--plan", "growth")
        default = keys("create", "n", "--account", "other", "--plan", "growth")

        assert ran.status == 2
        assert ran.out == ""
        assert ran.err == (
            "error: --plan: the account 'acme' has the plan 'starter'; omit --plan, or change it for all its keys "
            "with: awx-ratelimit accounts plan acme growth\n"
        )
        assert "the account 'other' has the default plan; omit --plan" in default.err
        assert service.accounts.get("acme").plan == "starter"
        assert service.list("acme").total == 0

    def test_same_plan(self, keys: Run, service: KeyService) -> None:
        """The plan that the account has is no error, so a script can be run again."""
        ran = keys("create", "n", "--account", "acme", "--plan", "starter")

        assert ran.status == 0
        assert service.list("acme").total == 1

    def test_prefix_and_pepper(
        self, keys: Run, store: KeyStore, service: KeyService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key has the given prefix and is stored with the pepper from the environment."""
        monkeypatch.setenv("AWX_KEY_PEPPER", "a pepper of many bytes")
        key = keys("create", "n", "--account", "acme", "--prefix", "awx_test_").out.strip().encode()
        key_format = KeyFormat("awx_test_", pepper=b"a pepper of many bytes")

        assert key_format.is_key(key) is True
        assert store.query(queries.key_record, key_format.digest(key)) is not None


class TestList:
    """``keys list``."""

    def test_table(self, keys: Run, service: KeyService) -> None:
        """The table has all keys, on any number of pages, and names with brackets as they are."""
        service.accounts.set_max_keys("acme", 200)
        for number in range(101):
            service.create("acme", f"[red]n{number}")
        ran = keys("list", "--account", "acme")

        assert len(ran.out.splitlines()) == 102
        assert "[red]n7 " in ran.out
        assert "never" in ran.out

    def test_json(self, keys: Run, service: KeyService) -> None:
        """The JSON document has all keys with their masked text."""
        service.accounts.set_max_keys("acme", 200)
        for number in range(101):
            service.create("acme", f"n{number}")
        listed = keys("list", "--account", "acme", "--json").json["data"]

        assert len(listed) == 101
        assert listed[0]["prefix"] == service.list("acme").items[0].masked
        assert listed[0]["last_used_at"] is None


class TestRotateAndRevoke:
    """``keys rotate`` and ``keys revoke``."""

    def test_rotate(self, keys: Run, service: KeyService) -> None:
        """The new key is printed, and the old one expires after the grace period."""
        old = service.create("acme", "n").key
        ran = keys("rotate", old.id, "--account", "acme", "--grace-seconds", "0")

        assert ran.status == 0
        assert KeyFormat().is_key(ran.out.strip()) is True
        assert service.get("acme", old.id).status == "expired"

    def test_revoke(self, keys: Run, service: KeyService) -> None:
        """The key is gone, and revoking it again is an error."""
        key = service.create("acme", "n").key
        ran = keys("revoke", key.id, "--account", "acme")
        again = keys("revoke", key.id, "--account", "acme")

        assert ran.status == 0
        assert ran.err == f"revoked {key.id}\n"
        assert again.status == 2
        assert service.list("acme").total == 0

    def test_without_an_account(self, keys: Run, service: KeyService) -> None:
        """Without --account, the commands find the account of the key."""
        service.accounts.create("other")
        old = service.create("other", "n").key
        rotated = keys("rotate", old.id, "--json")
        revoked = keys("revoke", rotated.json["id"])

        assert rotated.json["account_id"] == "other"
        assert revoked.status == 0
        assert service.events("other").items[0].action == "key.revoked"

    @pytest.mark.parametrize("command", ["rotate", "revoke"])
    def test_unknown_key_without_an_account(self, keys: Run, service: KeyService, command: str) -> None:
        """The error says how to find a key, and what is known of a revoked one."""
        revoked = service.create("acme", "n").key
        service.revoke("acme", revoked.id)
        missing = [keys(command, one).err for one in ("key_0123456789abcdef", revoked.masked)]

        assert missing[0].startswith(
            "error: no key of this store has the ID 'key_0123456789abcdef'; look it up with: awx-ratelimit keys find "
        )
        assert missing[1].startswith(f"error: no key of this store has the ID '{revoked.masked}'; look it up with: ")
        assert keys(command, revoked.id).err.startswith(f"error: the key {revoked.id} of 'acme' was revoked at 20")
        assert keys(command, KEY).status == 2

    @pytest.mark.parametrize("command", ["rotate", "revoke"])
    def test_unknown_key(self, keys: Run, service: KeyService, command: str) -> None:
        """The error says what is known of a key that the account does not have."""
        service.accounts.create("other")
        foreign, revoked = service.create("other", "n").key, service.create("acme", "n").key
        service.revoke("acme", revoked.id)
        errors = [keys(command, one, "--account", "acme").err for one in ("nope", foreign.id, revoked.id)]

        assert errors[0].startswith(
            "error: the account 'acme' has no key 'nope'; list the keys with: awx-ratelimit keys"
        )
        assert errors[1].startswith(f"error: the account 'acme' has no key '{foreign.id}'; list the keys with: ")
        assert errors[2].startswith(f"error: the key {revoked.id} of 'acme' was revoked at 20")

    def test_actor(self, keys: Run, service: KeyService) -> None:
        """The audit trail names the user of the command."""
        key = service.create("acme", "n").key
        keys("rotate", key.id, "--account", "acme")
        keys("revoke", key.id, "--account", "acme")

        actors = {event.actor for event in service.events("acme").items[:3]}
        assert len(actors) == 1
        assert str(actors.pop()).startswith("cli")


class TestStaleAndUnused:
    """``keys stale`` and ``keys unused``."""

    @pytest.fixture
    def ids(self, service: KeyService) -> dict[str, str]:
        """A new key of each of two accounts."""
        service.accounts.create("other")
        return {account: service.create(account, "n").key.id for account in ("acme", "other")}

    @pytest.mark.parametrize("command", ["stale", "unused"])
    def test_all_accounts(self, keys: Run, ids: dict[str, str], command: str) -> None:
        """Without an account, the keys of all accounts are listed."""
        ran = keys(command, "--days", "0", "--json")

        assert {key["id"] for key in ran.json["data"]} == set(ids.values())

    @pytest.mark.parametrize("command", ["stale", "unused"])
    def test_one_account(self, keys: Run, ids: dict[str, str], command: str) -> None:
        """With an account, only its keys are listed."""
        ran = keys(command, "--days", "0", "--account", "other", "--json")

        assert [key["id"] for key in ran.json["data"]] == [ids["other"]]

    @pytest.mark.parametrize("command", ["stale", "unused"])
    def test_default_days(self, keys: Run, ids: dict[str, str], command: str) -> None:
        """By default, new keys are not listed."""
        assert keys(command, "--json").json["data"] == []


class TestAccounts:
    """``keys set-plan`` and ``keys set-overrides``."""

    @pytest.fixture
    def table(self, tmp_path: Path) -> str:
        """The path of a plan table with the plans ``starter`` and ``gold``."""
        path = tmp_path / "plans.toml"
        path.write_text("[plans.starter]\nper_minute = 5\n[plans.gold]\nper_minute = 50\n")
        return str(path)

    def test_set_plan(self, keys: Run, service: KeyService, table: str) -> None:
        """The account has the new plan."""
        ran = keys("set-plan", "gold", "--account", "acme", "--plans", table, "--json")

        assert ran.status == 0
        assert ran.json["plan"] == "gold"
        assert service.accounts.get("acme").plan == "gold"

    def test_unknown_plan(self, keys: Run, service: KeyService, table: str) -> None:
        """A plan that is not in the table is an error that lists the plans."""
        ran = keys("set-plan", "golden", "--account", "acme", "--plans", table)

        assert ran.status == 2
        assert ran.err.count("\n") == 1
        assert "gold" in ran.err.replace("golden", "")
        assert service.accounts.get("acme").plan == "starter"

    @pytest.mark.parametrize("words", [("set-plan", "golden"), ("set-overrides", '{"plan": "golden"}')])
    def test_unchecked_plan(self, keys: Run, service: KeyService, table: str, words: tuple[str, str]) -> None:
        """Without a plan table, a line says that the plan was not checked."""
        unchecked = keys(*words, "--account", "acme")
        other = keys("set-overrides", '{"per_minute": 7}', "--account", "acme")
        checked = keys(*words[:1], words[1].replace("golden", "gold"), "--account", "acme", "--plans", table)

        assert "note: the plan 'golden' was not checked, because no plan table was given." in unchecked.err
        assert "note:" not in other.err + checked.err

    def test_set_overrides(self, keys: Run, service: KeyService, table: str) -> None:
        """The account has the overrides."""
        ran = keys("set-overrides", '{"per_minute": 7}', "--account", "acme", "--plans", table, "--json")

        assert ran.status == 0
        assert ran.json["overrides"] == {"per_minute": 7}
        assert service.accounts.get("acme").overrides == {"per_minute": 7}

    def test_set_overrides_of_the_account(self, keys: Run, service: KeyService, table: str) -> None:
        """The table `account` sets what all keys of the account share."""
        own = {"account": {"per_minute": 12_000, "per_month": {"limit": 5, "anchor_day": 15}}}
        ran = keys("set-overrides", json.dumps(own), "--account", "acme", "--plans", table)

        assert ran.status == 0
        assert service.accounts.get("acme").overrides == own

    @pytest.mark.parametrize("with_table", [False, True])
    def test_invalid_overrides_of_the_account(
        self, keys: Run, service: KeyService, table: str, *, with_table: bool
    ) -> None:
        """A mistake in the table `account` is one line that names its place, with and without a plan table."""
        options = ["--plans", table] if with_table else []
        ran = keys("set-overrides", '{"account": {"per_minute": 0}}', "--account", "acme", *options)

        assert ran.status == 2
        assert ran.err.count("\n") == 1
        assert "account.per_minute: minute: tokens: expected an integer >= 1, got 0" in ran.err
        assert service.accounts.get("acme").overrides is None

    def test_remove_overrides(self, keys: Run, service: KeyService) -> None:
        """``null`` removes the overrides."""
        service.accounts.set_overrides("acme", {"per_minute": 7})
        ran = keys("set-overrides", "null", "--account", "acme")

        assert ran.status == 0
        assert service.accounts.get("acme").overrides is None

    @pytest.mark.parametrize("overrides", ["{", "7", json.dumps({"per_minute": 0}), json.dumps({"per_minut": 1})])
    def test_invalid_overrides(self, keys: Run, service: KeyService, table: str, overrides: str) -> None:
        """Invalid overrides are an error on one line."""
        ran = keys("set-overrides", overrides, "--account", "acme", "--plans", table)

        assert ran.status == 2
        assert ran.err.count("\n") == 1
        assert service.accounts.get("acme").overrides is None


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list", "--account", "acme"),
        ("keys", "find", "awx_...x4f2"),
        ("accounts", "list"),
        ("usage", "alice"),
        ("usage", "export", "--since", "2025-06-01"),
        ("reset", "alice"),
    ],
)
def test_missing_store(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    """A store that does not exist is an error that names it, and is not made: its name may be misspelled."""
    path = tmp_path / "key.db"
    ran = run(*words, "--database", str(path))

    assert ran.status == 2
    assert ran.err.startswith(f"error: there is no key store at {path}; name the database of your app, or make one ")
    assert not path.exists()


def test_new_store(run: Run, tmp_path: Path) -> None:
    """`keys create` makes a store."""
    path = tmp_path / "key.db"

    assert run("keys", "create", "n", "--account", "acme", "--plan", "starter", "--database", str(path)).status == 0
    assert path.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("keys", "rotate", "key_0123456789abcdef"),
        ("keys", "revoke", "key_0123456789abcdef"),
        ("keys", "stale"),
        ("keys", "unused"),
        ("keys", "set-plan", "growth"),
        ("keys", "set-overrides", "null"),
        ("accounts", "audit"),
        ("usage", "history"),
        ("usage", "keys"),
        ("usage", "export", "--since", "2025-06-01"),
    ],
)
def test_unknown_account(run: Run, service: KeyService, database: str, words: tuple[str, ...]) -> None:
    """Every command names an unknown account and says where to look, on one line."""
    ran = run(*words, "--account", "nope", "--database", database)

    assert ran.status == 2
    assert ran.out == ""
    error = "error: account: there is no account 'nope'; list the accounts with: awx-ratelimit accounts list. See "
    assert ran.err == f"{error}docs/errors.md#account_not_found\n"


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nope"),
        ("plan", "nope", "growth"),
        ("max-keys", "nope", "5"),
        ("override", "nope", "--times", "2", "--until", "2099-01-01"),
        ("end-override", "nope"),
        ("suspend", "nope"),
        ("resume", "nope"),
    ],
)
def test_unknown_account_as_argument(run: Run, service: KeyService, database: str, words: tuple[str, ...]) -> None:
    """So do the commands for the operator."""
    ran = run("accounts", *words, "--database", database)

    assert ran.status == 2
    assert ran.err.startswith("error: account: there is no account 'nope'; list the accounts with: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", f"my {KEY}", "--account", "acme"),
        ("create", "n", "--account", KEY),
        ("revoke", KEY, "--account", "acme"),
        ("set-plan", KEY, "--account", "acme"),
        ("create", "n", KEY, "--account", "acme"),
        (KEY,),
        ("list", f"--{KEY}"),
        ("stale", f"--days={KEY}"),
    ],
    ids=["name", "account", "key id", "plan", "extra argument", "command", "option", "number"],
)
def test_key_in_wrong_place(keys: Run, service: KeyService, arguments: tuple[str, ...]) -> None:
    """An error never repeats a key that was typed in the wrong place."""
    ran = keys(*arguments)

    assert ran.status == 2
    assert KEY[4:30] not in ran.out + ran.err
