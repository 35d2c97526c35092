"""The command: a key's life for whoever runs the store, one line for what goes wrong, and a scan that tells no key."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strangers import unprivileged

from awx_ratelimit.cli import main
from awx_ratelimit.cli.scan_command import _PIECE_BYTES, _in_lines
from awx_ratelimit.keys import KeyFinder, KeyFormat, KeyService, KeyStore

KEY = KeyFormat().new().reveal()
COMMAND = Path(sys.executable).with_name("awx-ratelimit")


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process."""
    for name in ("AWX_DATABASE", "AWX_KEY_PREFIX", "AWX_KEY_PEPPER", "AWX_PLANS"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(words)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def keys(run: Run, store: KeyStore, database: str) -> Run:
    """Runs ``keys`` commands on the store."""
    return lambda *words: run("keys", *words, "--database", database)


@pytest.fixture
def service(store: KeyStore) -> KeyService:
    """What is in the store, at the machine's time."""
    service = KeyService(store)
    service.accounts.create("acme", plan="starter")
    return service


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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Missing command."),
        (("keys",), "Missing command."),
        (("nothing",), "No such command 'nothing'."),
        (("keys", "list"), "Missing option '--account'."),
        (("keys", "list", "--account", "a"), "Missing option '--database'"),
        (("keys", "list", "--account", "a", "--database", "mysql://u:hidden@h/d"), "there is no key store on 'mysql'"),
        (("keys", "list", "--account", "a", "--database", "postgresql://u:hidden@127.0.0.1:1/d"), "gives no answer"),
        (("keys", "list", "--account", "a", "--database", "/no/such/folder/keys.db"), "unable to open database file"),
        (("keys", "list", "--account", "a b", "--database", "sqlite://"), "allowed are 1 to 128 visible"),
        (("keys", "create", "", "--account", "a", "--database", "sqlite://"), "name: has 0 characters"),
        (("keys", "create", "n", "--account", "a", "--database", "sqlite://", "--prefix", "A"), "prefix cannot be"),
        (("keys", "stale", "--days", "x", "--database", "sqlite://"), "Invalid value for '--days'"),
        (("keys", "set-plan", "p", "--account", "a", "--database", "sqlite://", "--plans", "/no"), "No such file"),
        (("scan", "/no/such/file"), "/no/such/file: No such file or directory"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_an_error_is_one_line(run: Run, words: tuple[str, ...], says: str) -> None:
    """It says what to do, tells no password, and the status is 2."""
    ran = run(*words)

    assert ran.status == 2, ran
    assert ran.out == "", ran
    assert ran.err.startswith("error: "), ran
    assert ran.err.count("\n") == 1, ran
    assert says in ran.err, ran.err
    assert "hidden" not in ran.err, ran.err


def test_a_key_in_the_wrong_place_is_not_told_back(keys: Run, service: KeyService) -> None:
    """Whatever is wrong with it."""
    runs = [keys("create", f"my {KEY}", "--account", "acme"), keys("create", "n", "--account", KEY),
            keys("revoke", KEY, "--account", "acme"), keys("set-plan", KEY, "--account", "acme"),
            keys("create", "n", KEY, "--account", "acme"), keys(KEY), keys("list", f"--{KEY}"),
            keys("stale", f"--days={KEY}")]  # fmt: skip

    assert [(ran.status, KEY[4:30] in ran.out + ran.err) for ran in runs] == [(2, False)] * 8


class TestScan:
    """Keys where none should be."""

    def test_the_place_is_told_and_not_the_key(self, run: Run, tmp_path: Path) -> None:
        """File, line and the masked form; status 1."""
        path = tmp_path / "settings.py"
        path.write_text(f"# a comment\nKEY = '{KEY}'\n")
        ran, as_json = run("scan", str(path)), run("scan", str(path), "--json")

        masked = f"awx_...{KEY[-4:]}"
        assert ran.status == 1
        assert ran.out == f"{path}:2: {masked}\n"
        assert ran.err == ""
        assert as_json.status == 1
        assert as_json.json == {"found": [{"path": str(path), "line": 2, "masked": masked}]}
        assert KEY[4:30] not in ran.out + as_json.out

    def test_what_comes_through_a_pipe(self, run: Run) -> None:
        """Without a path, or with '-'."""
        statuses = [run("scan", *words, stdin=f"a\nb {KEY}".encode()) for words in ((), ("-",))]

        assert [(ran.status, ran.out) for ran in statuses] == [(1, f"-:2: awx_...{KEY[-4:]}\n")] * 2

    def test_nothing_is_found_where_nothing_is(self, run: Run, tmp_path: Path) -> None:
        """What only looks like a key is none: one letter off, cut short, masked. Status 0."""
        (tmp_path / "a.txt").write_text(f"{KEY[:-1]} {KEY.swapcase()} awx_...x4f2 {'awx_' + 'a' * 38}")
        ran = run("scan", str(tmp_path), "--json")

        assert ran.status == 0
        assert ran.json == {"found": []}

    def test_folders_are_searched(self, run: Run, tmp_path: Path) -> None:
        """Whole, but for what git and others keep, and what a link leads to."""
        for folder in ("b/c", ".git", "node_modules/x", ".hidden"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / "f").write_text(KEY)
        (tmp_path / "z").write_text(KEY)
        (tmp_path / "link").symlink_to(tmp_path / "z")
        (tmp_path / "loop").symlink_to(tmp_path)

        found = run("scan", str(tmp_path), "--json").json["found"]
        assert [one["path"].removeprefix(f"{tmp_path}/") for one in found] == [".hidden/f", "b/c/f", "z"]

    def test_a_file_that_cannot_be_read_is_an_error(self, run: Run, tmp_path: Path) -> None:
        """Others are searched all the same; the status is 2 if nothing was found, for not everything was seen."""
        (tmp_path / "a").write_text(KEY)
        (tmp_path / "b").write_text("nothing")
        none = str(tmp_path / "none")
        with_key, without = (run("scan", none, str(tmp_path / name)) for name in "ab")
        as_json = run("scan", none, str(tmp_path / "a"), "--json")

        assert with_key.status == 1
        assert with_key.out.count("\n") == 1
        assert with_key.err.count("\n") == 1
        assert without.status == 2
        assert without.out == ""
        assert without.err.count("\n") == 1
        assert as_json.status == 1
        assert len(as_json.json["found"]) == 1
        assert as_json.json["unreadable"] == [none]

    @pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
    def test_a_folder_that_cannot_be_read_does_not_end_it(self, run: Run, tmp_path: Path, mode: int) -> None:
        """It is said, and the files before and after it are searched."""
        for folder in ("a", "b", "c"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "f").write_text(KEY)
        for part in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
            part.chmod(0o755)
        (tmp_path / "b").chmod(mode)
        # What a command imports on first use may lie where only root may look.
        run("scan", str(tmp_path / "a"))
        with unprivileged():
            ran = run("scan", str(tmp_path))

        (tmp_path / "b").chmod(0o755)
        assert ran.status == 1
        assert [line.split(":")[0] for line in ran.out.splitlines()] == [f"{tmp_path}/a/f", f"{tmp_path}/c/f"]
        assert ran.err.startswith(f"error: {tmp_path}/b")
        assert ran.err.endswith(": Permission denied\n")

    def test_folders_may_lie_deep(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Deeper than functions may call one another."""
        monkeypatch.chdir(tmp_path)
        for _ in range(1_200):
            Path("d").mkdir()
            os.chdir("d")
        Path("f").write_text(KEY)
        os.chdir(tmp_path)

        assert run("scan", ".").status == 1

    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
    )
    def test_encodings(self, run: Run, encoding: str) -> None:
        """A key is found beside letters of any alphabet, and in what Windows writes."""
        ran = run("scan", stdin=f"é\n\xa0{KEY}\xa0\n".encode(encoding))

        assert ran.status == 1
        assert ran.out == f"-:2: awx_...{KEY[-4:]}\n"

    def test_bytes_that_are_no_text(self, run: Run) -> None:
        """A key in a binary is found as well."""
        assert run("scan", stdin=bytes(range(256)) + KEY.encode() + b"\x00\xff").status == 1

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("a\n::error file=x", "a\\x0a::error file=x"),
            ("a\r::error", "a\\x0d::error"),
            ("::error file=x", "\\x3a\\x3aerror file=x"),
            ("  ::error", "  \\x3a\\x3aerror"),
            ("##vso[task.complete]", "\\x23\\x23vso[task.complete]"),
            ("x##[error]", "x\\x23\\x23[error]"),
            ("\x1b]0;title\x07\x1b[31m", "\\x1b]0;title\\x07\\x1b[31m"),
            ("\x9b31m", "\\x9b31m"),
            ("\u202egnp.txt", "\\u202egnp.txt"),
            ("\u2028::error", "\\u2028::error"),
            (os.fsdecode(b"\xff"), "\\udcff"),
            ("\U000e0001", "\\U000e0001"),
            ("żółć 密钥", "żółć 密钥"),
        ],
    )
    def test_a_name_of_a_file_is_printed_so_that_nobody_obeys_it(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
    ) -> None:
        """Neither a terminal nor a CI; found or not readable, and JSON as well."""
        monkeypatch.chdir(tmp_path)
        Path(name).write_text(KEY)
        found, as_json, missing = run("scan", "."), run("scan", ".", "--json"), run("scan", f"{name}/none")

        assert found.status == 1
        assert found.out == f"{shown}:1: awx_...{KEY[-4:]}\n"
        assert missing.err.count("\n") == 1
        assert shown in missing.err or shown.startswith(("\\x3a", "  \\x3a"))
        assert as_json.json["found"][0]["path"] == name
        lines = [line.strip() for ran in (found, as_json, missing) for line in (ran.out + ran.err).split("\n")]
        assert [line for line in lines if line.startswith("::") or "##" in line] == []
        assert [line for line in lines if not line.isprintable()] == []

    @pytest.mark.parametrize(
        "text",
        [
            KEY.replace("_", "%5F"),
            f"https://h/?key={KEY.replace('_', '%5f')}",
            KEY.replace("_", "%255F"),
            KEY.replace("_", "\\u005f"),
            "Authorization: Basic " + base64.b64encode(f"{KEY}:".encode()).decode(),
            "authorization: basic " + base64.b64encode(f"user:{KEY}".encode()).decode().rstrip("="),
        ],
    )
    def test_a_key_that_is_encoded_is_found(self, run: Run, text: str) -> None:
        """As URLs, JSON and HTTP encode it."""
        ran = run("scan", stdin=f"a\n{text}\n".encode())

        assert ran.status == 1
        assert ran.out == f"-:2: awx_...{KEY[-4:]}\n"

    def test_other_prefixes(self, run: Run) -> None:
        """Of keys that begin otherwise; words after the usual prefix need no mention."""
        other, test = KeyFormat("acme_").new().reveal(), KeyFormat("awx_test_").new().reveal()
        found = [run("scan", *words, stdin=f"{other}\n{test}".encode()).out for words in ((), ("--prefix", "acme_"))]

        assert found == [f"-:2: awx_test_...{test[-4:]}\n", f"-:1: acme_...{other[-4:]}\n"]

    @given(st.integers(-60, 60), st.sampled_from(["x", ""]), st.booleans())
    def test_a_long_line_is_searched_in_pieces(self, offset: int, after: str, twice: bool) -> None:
        """A key is found once wherever the pieces meet."""
        before = "x" * (_PIECE_BYTES + offset)
        text = f"a\n{before} {KEY} {after * 500}{KEY if twice else ''}\nb"
        found = list(_in_lines("f", io.BytesIO(text.encode()), KeyFinder()))

        assert [place.line for place in found] == [2] * (1 + twice)


def test_the_installed_command(tmp_path: Path) -> None:
    """It is there under its name, and has its database from the environment."""
    made = subprocess.run(
        [COMMAND, "keys", "create", "n", "--account", "acme", "--plan", "starter"],
        env={**os.environ, "AWX_DATABASE": str(tmp_path / "keys.db")},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert KeyFormat().is_key(made.stdout.strip())


@pytest.mark.parametrize("times", [1, 20_000])
def test_a_pipe_that_is_closed_is_no_traceback(tmp_path: Path, times: int) -> None:
    """Whoever reads may have had enough (``| head -1``)."""
    path = tmp_path / "many"
    path.write_text(f"{KEY}\n" * times)
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run([COMMAND, "scan", path], stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)

    assert closed.returncode in (1, 2)
    assert closed.stderr == b""


def test_without_the_extra_the_command_says_what_to_install() -> None:
    """One line, no traceback."""
    code = (
        "import sys; sys.modules['typer'] = None\nfrom awx_ratelimit.cli import main\nsys.exit(main(['keys', 'list']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 2
    assert ran.stderr == "error: awx-ratelimit needs typer; install it with: pip install 'awx-ratelimit[cli]'\n"
