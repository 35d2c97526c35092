"""The command as a whole: its errors, its exit status and its installation."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from awx_ratelimit.cli import main
from awx_ratelimit.keys import KeyFormat
from awx_ratelimit.runtime.compiled import IS_COMPILED

KEY = KeyFormat().new().reveal()


COMMAND = Path(sys.executable).with_name("awx-ratelimit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing command. See `awx-ratelimit --help`"),
        (("keys",), "Missing command. See `awx-ratelimit keys --help`"),
        (("usage",), "Missing command. See `awx-ratelimit usage --help`"),
        (("nothing",), "No such command 'nothing'. See `awx-ratelimit --help`"),
        (("keys", "list", "--acount", "a"), "No such option: --acount"),
        (("keys", "list"), "Missing option '--account'. See `awx-ratelimit keys list --help`"),
        (("keys", "list", "--account", "a"), "Missing option '--database'"),
        (("keys", "list", "--account", "a", "--database", "mysql://u:hidden@h/d"), "'mysql' is not supported"),
        (("keys", "list", "--account", "a", "--database", "postgresql://u:hidden@127.0.0.1:1/d"), "does not answer"),
        (("keys", "create", "n", "--account", "a", "--database", "/no/such/keys.db"), "there is no folder /no/such"),
        (("keys", "list", "--account", "a b", "--database", "sqlite://"), "expected 1 to 128 visible"),
        (("keys", "create", "", "--account", "a", "--database", "sqlite://"), "name: has 0 characters"),
        (("keys", "create", "n", "--account", "a", "--database", "sqlite://", "--prefix", "A"), "not a valid prefix"),
        (("keys", "stale", "--days", "x", "--database", "sqlite://"), "Invalid value for '--days'"),
        (("keys", "set-plan", "p", "--account", "a", "--database", "sqlite://", "--plans", "/no"), "No such file"),
        (("scan", "/no/such/file"), "/no/such/file: No such file or directory"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_error(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """An error is one line without passwords, and the exit status is 2."""
    ran = run(*arguments)

    assert ran.status == 2, ran
    assert ran.out == "", ran
    assert ran.err.startswith("error: "), ran
    assert ran.err.count("\n") == 1, ran
    assert message in ran.err, ran.err
    assert "hidden" not in ran.err, ran.err


def test_version(run: Run) -> None:
    """The version is that of the installed distribution, with the form of the package."""
    form = "compiled" if IS_COMPILED else "not compiled: pure Python"

    assert run("--version") == (0, f"awx-ratelimit {version('awx-ratelimit')}, {form}\n", "")


def test_link(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error names the page about it, and links to it if AWX_DOCS_URL is the address of a site."""
    arguments = ("keys", "create", "n", "--account", "a", "--database", "sqlite://")
    named = run(*arguments)
    monkeypatch.setenv("AWX_DOCS_URL", "https://docs.example.com")
    linked = run(*arguments)

    assert named.err.endswith("See docs/errors.md#account_not_found\n")
    assert linked.err.endswith("See https://docs.example.com/errors/#account_not_found\n")


def test_installed_command(tmp_path: Path) -> None:
    """The installed command reads its settings from the environment."""
    ran = subprocess.run(
        [COMMAND, "keys", "create", "n", "--account", "acme", "--plan", "starter"],
        env={**os.environ, "AWX_DATABASE": str(tmp_path / "keys.db")},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert KeyFormat().is_key(ran.stdout.strip())


@pytest.mark.parametrize("times", [1, 20_000])
def test_closed_pipe(tmp_path: Path, times: int) -> None:
    """A reader that closes the pipe, as ``head -1`` does, causes no traceback."""
    path = tmp_path / "many"
    path.write_text(f"{KEY}\n" * times)
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run([COMMAND, "scan", path], stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write)

    assert closed.returncode in (1, 2)
    assert closed.stderr == b""


def test_missing_extra() -> None:
    """Without the extra, the command prints what to install."""
    code = (
        "import sys; sys.modules['typer'] = None\nfrom awx_ratelimit.cli import main\nsys.exit(main(['keys', 'list']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 2
    assert ran.stderr == "error: awx-ratelimit needs typer; install it with: pip install 'awx-ratelimit[cli]'\n"


def test_interrupt_during_import(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while the command is imported ends it without a traceback."""

    class Module:
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "awx_ratelimit.cli.app", Module())

    assert main(["loadtest"]) == 130
    assert capsys.readouterr() == ("", "")
