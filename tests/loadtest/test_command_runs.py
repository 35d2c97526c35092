"""The command ``awx-ratelimit loadtest``: its reports, its ends, and that it keeps its keys to itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from tests.loadtest.commands import RATES, Files, children, ended, heard, started
from tests.loadtest.conftest import Servers, begun
from tests.loadtest.gateways import PLAN
from tests.loadtest.hostile import hostile
from tests.processes import free_port

from awx_ratelimit.loadtest.audit.observation import Observation
from awx_ratelimit.loadtest.run_config import RunConfig


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
def test_a_dead_gateway(outcome: Reported) -> None:
    """A dead gateway is a verdict in a few seconds, and no stack trace."""
    mark, detail = outcome.verdicts["answers"]

    assert outcome.status == 1
    assert mark == "failed"
    assert "no server listens" in detail
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
    assert "load.driver" in outcome.titles[1]
    assert "load.worker" in outcome.titles[2]


def test_run_config_round_trip() -> None:
    """A run configuration survives the conversion to JSON and back."""
    config = RunConfig("http://h:1/a", PLAN, profiles=("burst",), stream_path="/s", workers=2)

    assert RunConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


def test_a_gateway_that_says_anything_is_reported(tmp_path: Path) -> None:
    """Whatever is in a body can be written as XML and as HTML, and runs nothing."""
    from datetime import UTC, datetime

    from tests.loadtest.test_audit import refused

    from awx_ratelimit.loadtest.report.ci_reports import as_junit
    from awx_ratelimit.loadtest.report.html import as_html
    from awx_ratelimit.loadtest.report.results import Report

    said: list[Observation] = [replace(refused(1.0), body="<script>alert(1)</script>\0\ud800"), refused(2.0)]
    report: Any = Report.of_run(RunConfig("http://h", PLAN), datetime.now(UTC), said)

    assert ET.fromstring(as_junit(report)).get("failures") == str(len(report.failed))
    assert "<script" not in as_html(report)
    assert "contract" in [one.name for one in report.failed]
