"""Whole runs of ``awx-ratelimit loadtest``: their reports, and that keys stay secret."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from tests.loadtest.commands import RATES, ReportPaths, children, read_until, running, wait_for_end
from tests.loadtest.conftest import Servers, scenarios
from tests.loadtest.gateways import KEYS, PLAN
from tests.loadtest.hostile import hostile
from tests.loadtest.observations import refused
from tests.processes import free_port

from awx_ratelimit import Concurrency, Plan, Rate
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report, as_junit
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

SECRET = "awx_test_key_2"


class Reported(NamedTuple):
    """An ended command: its status, its output, its reports, and the titles of its processes."""

    status: int
    output: str
    json: str
    junit: str
    page: str
    titles: tuple[str, ...] = ()

    @property
    def verdicts(self) -> dict[str, Any]:
        """The (result, detail) of each verdict, by name."""
        return {one["name"]: (one["verdict"], one["detail"]) for one in json.loads(self.json)["verdicts"]}


def run_with_reports(folder: Path, *words: str) -> Reported:
    """Run the command with all reports."""
    paths = ReportPaths(folder)
    with running(*words, *RATES, *paths.options, AWX_LOADTEST_KEY="awx_test_key_3") as process:
        return Reported(*wait_for_end(process), *paths.read())


def broken_contract(servers: Servers, folder: Path) -> Reported:
    """A gateway that breaks one promise."""
    return run_with_reports(folder, f"{servers.url('gateways')}/broken-body", "--profiles", "burst")


@scenarios(broken_contract)
def test_reports_of_a_broken_promise(outcome: Reported) -> None:
    """A broken promise is exit status 1, a failed verdict and a JUnit failure."""
    cases = {case.get("name"): [part.tag for part in case] for case in ET.fromstring(outcome.junit).iter("testcase")}
    results = {name: result for name, (result, _) in outcome.verdicts.items()}

    assert outcome.status == 1, outcome.output
    assert [name for name, result in results.items() if result == "failed"] == ["contract"], outcome.output
    assert results["never over"] == "passed", outcome.output
    assert cases["contract"] == ["failure"]
    assert cases["never over"] == ["system-out"]
    assert cases["isolation"] == ["skipped"]


@scenarios(broken_contract)
def test_page_loads_nothing(outcome: Reported) -> None:
    """The page draws its plots itself and neither loads anything nor runs scripts."""
    page = outcome.page.replace(json.loads(outcome.json)["url"], "")

    assert page.count("<svg") == 3
    assert "http:" not in page
    assert "src=" not in page
    assert "<script" not in page


def dead_gateway(_: Servers, folder: Path) -> Reported:
    """An address at which no server listens."""
    return run_with_reports(folder, f"http://127.0.0.1:{free_port()}")


@scenarios(dead_gateway)
def test_dead_gateway(outcome: Reported) -> None:
    """A dead gateway is a failed verdict without a traceback."""
    result, detail = outcome.verdicts["answers"]

    assert outcome.status == 1
    assert result == "failed"
    assert "no server listens" in detail
    assert "Traceback" not in outcome.output


def echoed_key(_: Servers, folder: Path) -> Reported:
    """A gateway that echoes the key, which was given on the command line; with the titles of all processes."""
    paths = ReportPaths(folder)
    words = ("--path", "/telling", "--key", SECRET, "--profiles", "burst,wait", "--workers", "1")
    with hostile() as (url, _requests), running(url, *RATES, *words, *paths.options) as process:
        begun = read_until(process, "burst")
        pids = (process.pid, *children(process.pid), *(pid for one in children(process.pid) for pid in children(one)))
        titles = tuple(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids)
        status, output = wait_for_end(process)
    return Reported(status, begun + output, *paths.read(), titles)


@scenarios(echoed_key)
def test_key_stays_secret(outcome: Reported) -> None:
    """A key from the command line is in no report, no output and no process title, even if the gateway echoes it."""
    _, detail = outcome.verdicts["contract"]
    texts = (outcome.output, outcome.json, outcome.junit, outcome.page, *outcome.titles)

    assert outcome.status == 1, outcome
    assert [text for text in texts if SECRET in text] == []
    assert "[key]" in detail
    assert len(outcome.titles) == 3
    assert "load.driver" in outcome.titles[1]
    assert "load.worker" in outcome.titles[2]


def test_run_config_round_trip() -> None:
    """A run configuration survives the conversion to JSON and back."""
    config = RunConfig("http://h:1/a", PLAN, profiles=("burst",), stream_path="/s", workers=2)

    assert RunConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


def test_run_config_of_an_account_round_trip() -> None:
    """So do the limits of an account, with periods of the calendar and tokens."""
    month = Rate("month", 9, period="month", anchor_day=15, timezone="Europe/Berlin")
    tokens = Rate("tokens-minute", 9, 60_000, burst=7, measure="tokens")
    plan = Plan("p", (Rate("minute", 5, 60_000),), Concurrency(2), Plan("p.account", (month, tokens), Concurrency(9)))
    config = RunConfig("http://h:1/a", plan, same_account=True)

    assert RunConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


def account_limit_per_key(servers: Servers, folder: Path) -> Reported:
    """A gateway that gives each key its account's limit, audited without a plan table."""
    paths = ReportPaths(folder)
    words = ("--rate", "10/4 seconds", "--account-rate", "15/4 seconds", "--account-rate", "10000/month")
    url = f"{servers.url('gateways')}/account-limit-per-key"
    with running(url, *words, "--profiles", "account", *paths.options, AWX_LOADTEST_KEYS=json.dumps(KEYS)) as process:
        return Reported(*wait_for_end(process), *paths.read())


@scenarios(account_limit_per_key)
def test_account_from_the_command_line(outcome: Reported) -> None:
    """``--account-rate`` audits all keys together, and the reports say by which limits."""
    report = json.loads(outcome.json)
    rates = report["plan"]["account"]["rates"]
    result, detail = outcome.verdicts["never over"]

    assert outcome.status == 1, outcome.output
    assert result == "failed"
    assert detail.startswith("account.4second: ")
    assert report["same_account"] is True
    assert [(rate["name"], rate["period"]) for rate in rates] == [("4second", None), ("month", "month")]
    assert "account.4second" in outcome.page


def test_any_body_can_be_reported() -> None:
    """Control characters, surrogates and scripts in a gateway's body do no harm in XML and HTML."""
    record = RunRecord([replace(refused(1.0), body="<script>alert(1)</script>\0\ud800"), refused(2.0)])
    report = Report.of_run(RunConfig("http://h", PLAN), datetime.now(UTC), record)

    assert ET.fromstring(as_junit(report)).get("failures") == str(len(report.failed))
    assert "<script" not in as_html(report)
    assert "contract" in [one.name for one in report.failed]
