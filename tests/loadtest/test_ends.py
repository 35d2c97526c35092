"""How a run ends: by itself, within its bounds; when it is asked to; and when what it needs is lost on the way."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tests.loadtest.commands import RATES, children, ended, heard, runs, started
from tests.loadtest.conftest import Servers
from tests.processes import free_port

from awx_ratelimit.cli import main

KEY = {"AWX_LOADTEST_KEY": "awx_test_key_0"}
SOAK = ("--profiles", "soak")


@pytest.fixture
def url(servers: Servers) -> str:
    """A gateway whose only user is this test."""
    return servers.url("gateways")


def told(path: Path) -> dict[str, Any]:
    """The report in JSON."""
    report: dict[str, Any] = json.loads(path.read_text())
    return report


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2], ids=str)
def test_asked_to_end_it_leaves_a_whole_report(url: str, tmp_path: Path, signals: list[signal.Signals]) -> None:
    """In the middle, once and twice: what was seen until then is in every report, and no process is left."""
    page, xml, answer = (tmp_path / name for name in ("a.html", "a.xml", "a.json"))
    words = (*SOAK, "--html", str(page), "--junit", str(xml), "--json", str(answer))
    with started(f"{url}/honest-9", *RATES, *words, **KEY) as process:
        heard(process, "soak")
        driver = children(process.pid)
        time.sleep(1.0)
        for one in signals:
            process.send_signal(one)
            time.sleep(0.05)
        status, said = ended(process)
    report = told(answer)

    assert (status, "interrupted" in said, "Traceback" in said) == (130, True, False), said
    assert (report["interrupted"], report["requests"] > 5, ET.fromstring(xml.read_text()).tag) == (
        True,
        True,
        "testsuite",
    )
    assert ("</html>" in page.read_text(), [pid for pid in driver if runs(pid)]) == (True, [])


def test_asked_to_end_before_the_first_request(url: str, tmp_path: Path) -> None:
    """While it starts there is nothing to be told, and that is what the report says."""
    answer = tmp_path / "a.json"
    with started(f"{url}/honest-2", *RATES, *SOAK, "--json", str(answer), **KEY) as process:
        while not children(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        status, said = ended(process)

    assert (status, "Traceback" in said, told(answer)["verdicts"][0]["detail"]) == (
        130, False, "interrupted before the first request",
    ), said  # fmt: skip


def test_asked_to_end_while_it_is_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Then there is no report to be written, and no stack trace."""

    class Module:
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "awx_ratelimit.cli.app", Module())

    assert (main(["loadtest"]), capsys.readouterr()) == (130, ("", ""))


def test_a_driver_that_was_killed_is_said(url: str, tmp_path: Path) -> None:
    """It is no fault of the gateway's: what was seen stands, the status says that the run is not whole."""
    answer, xml = tmp_path / "a.json", tmp_path / "a.xml"
    with started(f"{url}/honest-8", *RATES, *SOAK, "--json", str(answer), "--junit", str(xml), **KEY) as process:
        heard(process, "soak")
        time.sleep(1.0)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        status, said = ended(process)
    report = told(answer)

    assert (status, report["passed"], report["requests"] > 5, "ended with status -9" in report["trouble"]) == (
        2, False, True, True,
    ), said  # fmt: skip
    assert [ET.fromstring(xml.read_text()).get(name) for name in ("errors", "failures")] == ["1", "0"]


def test_a_worker_that_was_killed_is_said(url: str, tmp_path: Path) -> None:
    """The run ends in some seconds, and not at the end of its time."""
    answer, began_s = tmp_path / "a.json", time.monotonic()
    words = (*RATES, *SOAK, "--workers", "2", "--json", str(answer))
    with started(f"{url}/honest-7", *words, **KEY) as process:
        heard(process, "soak")
        (driver,) = children(process.pid)
        workers = children(driver)
        os.kill(workers[0], signal.SIGKILL)
        status, said = ended(process)
    report = told(answer)

    assert (status, report["trouble"], time.monotonic() - began_s < 45) == (2, "of 2 workers 1 are left", True), said
    assert [pid for pid in (driver, *workers) if runs(pid)] == []


@pytest.mark.parametrize(
    ("more", "bound"),
    [(("--seconds", "3"), "seconds"), (("--requests", "21", "--workers", "2"), "requests")],
    ids=["time", "requests"],
)
def test_it_ends_by_itself(url: str, more: tuple[str, ...], bound: str, tmp_path: Path) -> None:
    """After its time, and after its requests, whichever is first; over workers too."""
    answer, most = tmp_path / "a.json", {"seconds": 4, "requests": 21}
    words = (*SOAK, "--users", "2", "--seconds", "30", *more, "--json", str(answer))
    with started(f"{url}/honest-6", *RATES, *words, **KEY) as process:
        status, said = ended(process)

    assert (status, 1 < told(answer)[bound] <= most[bound]) == (0, True), said


def test_a_report_that_cannot_be_written_is_known_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked of anybody; the error names the file."""
    status = main(["loadtest", "http://127.0.0.1:1", *RATES, "--html", str(tmp_path / "none" / "a.html")])

    assert (status, "none/a.html" in (said := capsys.readouterr().err), said.count("\n")) == (2, True, 1)


def test_a_disk_that_is_full_takes_no_other_report(url: str, tmp_path: Path) -> None:
    """What can be written is, the table is printed, and the status says that something is missing."""
    answer = tmp_path / "a.json"
    words = (*RATES, "--profiles", "burst", "--html", "/dev/full", "--json", str(answer))
    with started(f"{url}/honest-5", *words, **KEY) as process:
        status, said = ended(process)

    assert (status, told(answer)["passed"], "never over" in said) == (2, True, True), said
    assert ("the report /dev/full could not be written: No space left" in said, "Traceback" in said) == (True, False)


def test_a_worker_that_has_other_keys_is_said(url: str, tmp_path: Path) -> None:
    """What another machine has in its environment is compared before the first request."""
    words = (*RATES, *SOAK, "--workers", "1", "--remote", "--bind", f"127.0.0.1:{(port := free_port())}")
    with (
        started(f"{url}/honest-4", *words, "--json", str(tmp_path / "a.json"), **KEY) as process,
        started("127.0.0.1", "--port", str(port), command="loadtest-worker") as worker,
    ):
        status, said = ended(process)
        _, worker_said = ended(worker)

    assert (status, "a worker has 0 keys" in said, "Traceback" in worker_said) == (2, True, False), said


def test_whoever_reads_no_more_gets_the_files_all_the_same(url: str, tmp_path: Path) -> None:
    """Reports are written before anything is printed."""
    answer = tmp_path / "a.json"
    with started(f"{url}/honest-3", *RATES, "--profiles", "burst", "--json", str(answer), **KEY) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(50)

    assert told(answer)["passed"]
