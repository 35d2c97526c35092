"""``awx-ratelimit loadtest``: its arguments and its report files. tests/loadtest has whole runs."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Named, Run
from tests.loadtest.commands import RATES
from tests.loadtest.observations import BURST_S, admitted, refused
from tests.strangers import make_foreign

from awx_ratelimit import Gate, Limiter, MemoryBackend, Plan, PlanTable, StaticKeys
from awx_ratelimit.cli import loadtest_command, main, output
from awx_ratelimit.cli.loadtest_command import LoadTestOptions
from awx_ratelimit.loadtest.runner import RunRecord


def test_locust_is_not_imported() -> None:
    """The command imports neither gevent nor Locust, so nothing is patched in this process."""
    code = "import sys, awx_ratelimit.cli.app; print({'gevent', 'locust', 'geventhttpclient'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert ran.stdout == "set()\n"


def test_plans_of_an_app(run: Run, named: Named) -> None:
    """--plans and AWX_PLANS may name an app, as for the other commands; --plan may be one that only its code has."""
    keys = StaticKeys({"awx_example_key": Plan.of("code", per_minute=5)})
    app = named(Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=keys))

    assert LoadTestOptions(url="http://h", plans=app, plan="code").run_config(["awx_example_key"]).plan.name == "code"
    assert (
        LoadTestOptions(url="http://h", plans=app, plan="growth").run_config(["awx_example_key"]).plan.name == "growth"
    )
    unknown = run("loadtest", "http://h", "--plans", app, "--plan", "golden", "--key", "awx_k")
    assert "--plan: expected one of the plans code, starter, growth, got 'golden'" in unknown.err


def test_missing_extra() -> None:
    """Without the extra, the command prints what to install."""
    code = (
        "import importlib.util, sys\nimportlib.util.find_spec = lambda name: None\nfrom awx_ratelimit.cli import main\n"
        "sys.exit(main(['loadtest', 'http://127.0.0.1:1']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 2
    assert (
        ran.stderr.splitlines()[-1]
        == "error: the load tester needs locust; install it with: pip install 'awx-ratelimit[loadtest]'"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ftp://h",), "url: expected http:// or https://"),
        (("http://u:hidden@h",), "url: expected http:// or https://"),
        (("http://h", "--profiles", "brust"), "profiles: expected one or more of steady, burst"),
        (("http://h", "--profiles", "streams"), "needs --stream-path"),
        (("http://h", "--plan", "gold"), "there is no plan 'gold'; allowed are starter, growth"),
        (("http://h", "--plan", "starter", "--rate", "1/second"), "not both"),
        (("http://h", "--rate", "60/minuet"), "60/minuet"),
        (("http://h", "--key", "hidden\n"), "key 0: expected visible ASCII"),
        (("http://h", "--key-form", "Bearer"), "that contains {key}"),
        (("http://h:99999",), "url: expected http:// or https://"),
        (("http://h/ü",), "url: expected http:// or https://"),
        (("http://h", "--path", "agents"), "begins with /"),
        (("http://h", "--path", "/a b"), "begins with /"),
        (("http://h", "--method", "GET /"), "one word of letters"),
        (("http://h", "--key-header", "X-Key:"), "one word of letters"),
        (("http://h", "--key-form", "{key}\n"), "key form: expected visible ASCII"),
        (("http://h", "--profiles", "isolation"), "needs two keys"),
        (("http://h", "--same-account"), "expected a plan with limits that keys share, got 'starter'"),
        (("http://h", "--profiles", "account"), "needs --same-account"),
        (("http://h", "--rate", "9/minute", "--account-rate", "9/minute", "--profiles", "account"), "two or more keys"),
        (("http://h", "--account-rate", "1/second"), "add --rate or --slots"),
        (("http://h", "--plan", "starter", "--slots", "1", "--account-slots", "1"), "not both"),
        (("http://h", "--rate", "60/minute", "--account-rate", "1000/2 months"), "1000/2 months"),
        (("http://h", "--remote"), "--remote needs --workers"),
        (("http://h", "--web", "8089"), "expected HOST:PORT"),
        (("http://h", "--slots", "0"), "slots: expected an integer >= 1, got 0"),
        (("http://h", "--cost", "0"), "--cost"),
    ],
    ids=str,
)
def test_error(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is one line without secrets, and the exit status is 2."""
    status = main(["loadtest", *arguments])
    out, err = capsys.readouterr()

    assert status == 2, err
    assert out == "", err
    assert err.count("\n") == 1, err
    assert message in err, err
    assert "hidden" not in err, err


def test_report_mode(tmp_path: Path) -> None:
    """Only its owner can read a new report; an existing file keeps its mode."""
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o644)
    before = os.umask(0)
    try:
        loadtest_command.check_files([new, old])
    finally:
        os.umask(before)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (new, old)] == [0o600, 0o644]


def test_link_of_other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is written through a link of the same user, and never through a link of another user."""
    link = tmp_path / "report.html"
    link.symlink_to("elsewhere.html")
    loadtest_command.check_files([link])
    make_foreign(link, monkeypatch)

    with pytest.raises(OSError, match=r"report.html, which belongs to user .* is a symbolic link"):
        loadtest_command.check_files([link])


def test_unwritable_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report that cannot be written is an error before the first request."""
    status = main(["loadtest", "http://127.0.0.1:1", *RATES, "--html", str(tmp_path / "none" / "a.html")])

    assert status == 2
    assert "none/a.html" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


@pytest.fixture
def recorded_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the run with recorded requests."""
    monkeypatch.setattr(loadtest_command, "run", lambda *_: RunRecord([*map(admitted, BURST_S), refused(0.1)]))


@pytest.mark.usefixtures("recorded_run")
def test_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk does not prevent the other reports; the exit status is 2."""
    report = tmp_path / "a.json"
    status = main(["loadtest", "http://h", *RATES, "--html", "/dev/full", "--json", str(report)])
    out, err = capsys.readouterr()

    assert status == 2
    assert json.loads(report.read_text())["passed"] is True
    assert "never over" in out
    assert "cannot write the report /dev/full: No space left" in err


@pytest.mark.usefixtures("recorded_run")
def test_partial_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that was written partially is removed."""
    report = tmp_path / "a.html"

    def half(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text[:9].encode(encoding))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)

    assert main(["loadtest", "http://h", *RATES, "--html", str(report)]) == 2
    assert not report.exists()


@pytest.mark.usefixtures("recorded_run")
def test_closed_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports are written before anything is printed, so a closed pipe does not prevent them."""

    def unread(*_: object) -> None:
        raise BrokenPipeError

    report = tmp_path / "a.json"
    monkeypatch.setattr(output, "print_table", unread)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    status = main(["loadtest", "http://h", *RATES, "--json", str(report)])

    assert status == 2
    assert json.loads(report.read_text())["passed"] is True
