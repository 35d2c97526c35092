"""The command ``awx-ratelimit loadtest``: its reports, its ends, and that it keeps its keys to itself."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest
from tests.loadtest.commands import RATES, Files, children, ended, heard, started
from tests.loadtest.conftest import Servers, begun
from tests.loadtest.gateways import PLAN
from tests.loadtest.hostile import hostile
from tests.processes import free_port
from tests.strangers import make_foreign

from awx_ratelimit.cli import main, report_files
from awx_ratelimit.loadtest import key_sources
from awx_ratelimit.loadtest.audit.observation import Observation
from awx_ratelimit.loadtest.run_config import Order


class Reported(NamedTuple):
    """How a command has ended: its status, all that it said, and its reports."""

    status: int
    said: str
    told: str
    xml: str
    page: str
    titles: tuple[str, ...] = ()

    @property
    def verdicts(self) -> dict[str, Any]:
        """By their names: the mark, and what was seen."""
        return {one["name"]: (one["verdict"], one["detail"]) for one in json.loads(self.told)["verdicts"]}


def reported(folder: Path, *words: str) -> Reported:
    """A run with all reports."""
    files = Files(folder)
    with started(*words, *RATES, *files.words, AWX_LOADTEST_KEY="awx_test_key_3") as process:
        return Reported(*ended(process), *files.read())


def broken(servers: Servers, folder: Path) -> Reported:
    """A gateway that breaks one promise."""
    return reported(folder, f"{servers.url('gateways')}/broken-body", "--profiles", "burst")


@begun(broken)
def test_reports_for_people_and_programs(outcome: Reported) -> None:
    """The promise that is broken is status 1 and a failure in JUnit; the page has plots, and loads nothing."""
    cases = {case.get("name"): [part.tag for part in case] for case in ET.fromstring(outcome.xml).iter("testcase")}
    marks = {name: mark for name, (mark, _) in outcome.verdicts.items()}
    page = outcome.page.replace(json.loads(outcome.told)["url"], "")
    failed = [name for name, mark in marks.items() if mark == "failed"]

    assert outcome.status == 1, outcome.said
    assert failed == ["contract"], outcome.said
    assert marks["never over"] == "passed", outcome.said
    assert cases["contract"] == ["failure"]
    assert cases["never over"] == ["system-out"]
    assert cases["isolation"] == ["skipped"]
    assert page.count("<svg") == 3
    assert "http:" not in page
    assert "src=" not in page
    assert "<script" not in page


def nobody(_: Servers, folder: Path) -> Reported:
    """Nobody listens there."""
    return reported(folder, f"http://127.0.0.1:{free_port()}")


@begun(nobody)
def test_nobody_listens(outcome: Reported) -> None:
    """A dead gateway is a verdict in a few seconds, and no stack trace."""
    mark, detail = outcome.verdicts["answers"]

    assert outcome.status == 1
    assert mark == "failed"
    assert "nobody listens" in detail
    assert "Traceback" not in outcome.said


def telling(_: Servers, folder: Path) -> Reported:
    """A gateway that tells the key back, which came on the command line; and what processes are called meanwhile."""
    files = Files(folder)
    words = ("--path", "/telling", "--key", SECRET, "--profiles", "burst,wait", "--workers", "1")
    with hostile() as (url, _requests), started(url, *RATES, *words, *files.words) as process:
        begun_with = heard(process, "burst")
        pids = (process.pid, *children(process.pid), *(pid for one in children(process.pid) for pid in children(one)))
        titles = tuple(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids)
        status, said = ended(process)
    return Reported(status, begun_with + said, *files.read(), titles)


SECRET = "awx_test_key_2"


@begun(telling)
def test_a_key_of_the_command_line_goes_nowhere(outcome: Reported) -> None:
    """It is in no report, no output and no process's title, though the gateway tells it back."""
    _, detail = outcome.verdicts["contract"]

    assert outcome.status == 1, outcome
    assert [SECRET in text for text in (*outcome[1:5], *outcome.titles)] == [False] * 7, outcome
    assert "[key]" in detail
    assert "loadtest.driver" in outcome.titles[1]
    assert "loadtest.worker" in outcome.titles[2]


def test_locust_stays_in_its_own_process() -> None:
    """The command loads neither gevent nor Locust, and nothing here is patched."""
    code = "import sys, awx_ratelimit.cli.app; print({'gevent', 'locust', 'geventhttpclient'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert ran.stdout == "set()\n"


def test_without_the_extra_it_says_what_to_install() -> None:
    """One line, no traceback."""
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
    ("words", "says"),
    [
        (("ftp://h",), "the URL is none of a gateway"),
        (("http://u:hidden@h",), "the URL is none of a gateway"),
        (("http://h", "--profiles", "brust"), "there is no profile 'brust'; allowed are steady, burst"),
        (("http://h", "--profiles", "streams"), "needs --stream-path"),
        (("http://h", "--plan", "gold"), "there is no plan 'gold'; allowed are starter, growth"),
        (("http://h", "--plan", "starter", "--rate", "1/second"), "not both"),
        (("http://h", "--rate", "60/minuet"), "60/minuet"),
        (("http://h", "--key", "hidden\n"), "key 0 is no key"),
        (("http://h", "--key-form", "Bearer"), "has no {key} in it"),
        (("http://h:99999",), "the URL is none of a gateway"),
        (("http://h/ü",), "the URL is none of a gateway"),
        (("http://h", "--path", "agents"), "begins with /"),
        (("http://h", "--path", "/a b"), "begins with /"),
        (("http://h", "--method", "GET /"), "a word of letters"),
        (("http://h", "--key-header", "X-Key:"), "a word of letters"),
        (("http://h", "--key-form", "{key}\n"), "not visible ASCII"),
        (("http://h", "--profiles", "isolation"), "needs two keys"),
        (("http://h", "--remote"), "--remote needs --workers"),
        (("http://h", "--web", "8089"), "allowed is HOST:PORT"),
        (("http://h", "--slots", "0"), "slots is 0"),
        (("http://h", "--cost", "0"), "--cost"),
    ],
    ids=str,
)
def test_an_error_is_one_line(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is allowed, tells no secret, and is no failure of the gateway's: the status is 2."""
    status = main(["loadtest", *words])
    out, err = capsys.readouterr()

    assert status == 2, err
    assert out == "", err
    assert err.count("\n") == 1, err
    assert says in err, err
    assert "hidden" not in err, err


def test_keys_are_taken_out_of_arguments() -> None:
    """However they are written, and as often as they are."""
    assert key_sources.taken_from(["loadtest", "--key", "a", "--plan=b", "--key=c", "--keys", "f"]) == (
        ["loadtest", "--plan=b", "--keys", "f"],
        ["a", "c"],
    )


def test_keys_are_masked_also_in_json() -> None:
    """A gateway that tells a key back does not bring it into a report."""
    secret = 'awx_"quoted"'

    assert key_sources.masked(json.dumps({"body": f"<{secret}>"}) + secret, [secret]) == '{"body": "<[key]>"}[key]'


def test_a_short_key_is_a_word_like_others() -> None:
    """Whoever's key is `rate` does not want it to be taken out of every sentence."""
    assert key_sources.masked('{"code": "rate_limit_exceeded"}', ["rate"]) == '{"code": "rate_limit_exceeded"}'


def test_an_order_goes_from_process_to_process() -> None:
    """Whole, and it has no key in it."""
    order = Order("http://h:1/a", PLAN, profiles=("burst",), stream_path="/s", workers=2)

    assert Order.of_json(json.loads(json.dumps(order.as_json()))) == order


def test_a_gateway_that_says_anything_is_reported(tmp_path: Path) -> None:
    """Whatever is in a body can be written as XML and as HTML, and runs nothing."""
    from datetime import UTC, datetime

    from tests.loadtest.test_audit import refused

    from awx_ratelimit.loadtest.report.html import as_html
    from awx_ratelimit.loadtest.report.junit import as_junit
    from awx_ratelimit.loadtest.report.report import made

    said: list[Observation] = [replace(refused(1.0), body="<script>alert(1)</script>\0\ud800"), refused(2.0)]
    report: Any = made(Order("http://h", PLAN), datetime.now(UTC), said)

    assert ET.fromstring(as_junit(report)).get("failures") == str(len(report.failed))
    assert "<script" not in as_html(report)
    assert "contract" in [one.name for one in report.failed]


def test_a_report_is_created_for_its_user_alone(tmp_path: Path) -> None:
    """A gateway's answers are in it; an existing file keeps its mode."""
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o644)
    before = os.umask(0)
    try:
        report_files.check([new, old])
    finally:
        os.umask(before)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (new, old)] == [0o600, 0o644]


def test_a_report_is_not_written_through_a_link_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder such as /tmp that user would choose which file is overwritten; a link of this user's is followed."""
    link = tmp_path / "report.html"
    link.symlink_to("elsewhere.html")
    report_files.check([link])
    make_foreign(link, monkeypatch)

    with pytest.raises(OSError, match=r"report.html, which belongs to user .* is a symbolic link"):
        report_files.check([link])
