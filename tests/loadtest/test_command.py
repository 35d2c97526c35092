"""The command ``awx-ratelimit loadtest``: its reports, its ends, and that it keeps its keys to itself."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests.loadtest.commands import RATES, children, ended, started
from tests.loadtest.conftest import Servers
from tests.loadtest.gateways import PLAN

from awx_ratelimit.cli import main
from awx_ratelimit.loadtest import keys
from awx_ratelimit.loadtest.observation import Observation
from awx_ratelimit.loadtest.order import Order


@pytest.fixture
def url(servers: Servers) -> str:
    """A gateway whose only user is this test."""
    return servers.url("gateways")


def test_reports_for_people_and_programs(url: str, tmp_path: Path) -> None:
    """A broken promise is status 1 and a failure in JUnit; the page has plots, and loads nothing."""
    page, xml, told = (tmp_path / name for name in ("a.html", "a.xml", "a.json"))
    words = ("--profiles", "burst", "--html", str(page), "--junit", str(xml), "--json", str(told))
    with started(f"{url}/broken-body", *RATES, *words, AWX_LOADTEST_KEY="awx_test_key_3") as process:
        status, _ = ended(process)
    cases = {case.get("name"): [part.tag for part in case] for case in ET.fromstring(xml.read_text()).iter("testcase")}
    verdicts = {one["name"]: one["verdict"] for one in json.loads(told.read_text())["verdicts"]}

    assert (status, verdicts["contract"], verdicts["never over"]) == (1, "failed", "passed")
    assert (cases["contract"], cases["never over"], cases["isolation"]) == (["failure"], ["system-out"], ["skipped"])
    text = page.read_text()
    assert (text.count("<svg"), "http:" in text.replace(url, ""), "src=" in text, "<script" in text) == (
        3, False, False, False,
    )  # fmt: skip


def test_nobody_listens(tmp_path: Path) -> None:
    """A dead gateway is a verdict in a few seconds, and no stack trace."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = tmp_path / "a.json"
    with started(f"http://127.0.0.1:{port}", *RATES, "--json", str(told)) as process:
        status, said = ended(process)
    first = json.loads(told.read_text())["verdicts"][0]

    assert (status, first["verdict"], "nobody listens" in first["detail"], "Traceback" in said) == (
        1, "failed", True, False,
    ), said  # fmt: skip


def test_a_key_of_the_command_line_goes_nowhere(url: str, tmp_path: Path) -> None:
    """It is in no report, no output and no process's title, though the gateway tells it back."""
    secret = "awx_test_key_2"
    page, xml, told = (tmp_path / name for name in ("a.html", "a.xml", "a.json"))
    words = ("--html", str(page), "--junit", str(xml), "--json", str(told), "--profiles", "burst,wait")
    with started(f"{url}/honest-7", *RATES, "--key", secret, *words) as process:
        assert process.stderr is not None
        begun = process.stderr.readline() + process.stderr.readline()
        titles = [_title(pid) for pid in (process.pid, *children(process.pid))]
        status, said = ended(process)
    written = "".join(path.read_text() for path in (page, xml, told))

    assert (status, [secret in text for text in (begun, said, written, *titles)]) == (0, [False] * 5), said
    assert "loadtest.driver" in titles[1]


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


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

    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (
        2,
        "error: the load tester needs locust; install it with: pip install 'awx-ratelimit[loadtest]'",
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
    ],
    ids=str,
)
def test_an_error_is_one_line(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is allowed, tells no secret, and the status is 2."""
    status = main(["loadtest", *words])
    out, err = capsys.readouterr()

    assert (status, out, err.count("\n"), says in err, "hidden" in err) == (2, "", 1, True, False), err


def test_keys_are_taken_out_of_arguments() -> None:
    """However they are written, and as often as they are."""
    assert keys.taken_from(["loadtest", "--key", "a", "--plan=b", "--key=c", "--keys", "f"]) == (
        ["loadtest", "--plan=b", "--keys", "f"],
        ["a", "c"],
    )


def test_keys_are_masked_also_in_json() -> None:
    """A gateway that tells a key back does not bring it into a report."""
    secret = 'awx_"quoted"'

    assert keys.masked(json.dumps({"body": f"<{secret}>"}) + secret, [secret]) == '{"body": "<[key]>"}[key]'


def test_an_order_goes_from_process_to_process() -> None:
    """Whole, and it has no key in it."""
    order = Order("http://h:1/a", PLAN, profiles=("burst",), stream_path="/s", workers=2)

    assert Order.of_json(json.loads(json.dumps(order.as_json()))) == order


def test_a_gateway_that_says_anything_is_reported(tmp_path: Path) -> None:
    """Whatever is in a body can be written as XML and as HTML, and runs nothing."""
    from datetime import UTC, datetime

    from tests.loadtest.test_audit import refused

    from awx_ratelimit.loadtest.html import as_html
    from awx_ratelimit.loadtest.junit import as_junit
    from awx_ratelimit.loadtest.report import made

    said: list[Observation] = [replace(refused(1.0), body="<script>alert(1)</script>\0\ud800"), refused(2.0)]
    report: Any = made(Order("http://h", PLAN), datetime.now(UTC), said)

    assert ET.fromstring(as_junit(report)).get("failures") == str(len(report.failed))
    assert ("<script" in as_html(report), "contract" in [one.name for one in report.failed]) == (False, True)
