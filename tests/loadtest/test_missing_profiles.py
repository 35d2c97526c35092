"""What a report says of profiles that a run had no time for."""

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from tests.loadtest.observations import BURST_S, PLAN, admitted

from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report, as_json, as_junit
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

GAP = "window was cut short, isolation did not run"


def report_of(*profiles: str, complete: list[str], trouble: str = "", interrupted: bool = False) -> Report:
    """The report of a run that has sent requests of `steady`, `window` and `soak` only."""
    seen = [admitted(at_s, profile=name) for name, at_s in zip(("steady", "window", "soak"), BURST_S, strict=False)]
    record = RunRecord(seen, complete=complete, trouble=trouble, interrupted=interrupted)
    return Report.of_run(RunConfig("http://h", PLAN, profiles=profiles), datetime.now(UTC), record)


def test_every_report_names_them() -> None:
    """Every form of the report names the profiles that did not run, and those that were cut short."""
    report = report_of("steady", "window", "isolation", complete=["steady"])
    expected = {"window": "was cut short", "isolation": "did not run"}
    page, junit = as_html(report), ET.fromstring(as_junit(report))
    skipped = {case.get("name"): case[0].get("message") for case in junit if case[0].tag == "skipped"}

    assert as_json(report)["missing_profiles"] == expected
    assert report.gap == (
        f"the run has used its 900 s or its 20000 requests: {GAP}. Give more --seconds or --requests, or select "
        "--profiles"
    )
    assert report.gap in page
    assert {name: skipped[f"profile {name}"] for name in expected} == expected
    assert int(junit.get("tests", "")) == len(junit)
    assert int(junit.get("skipped", "")) == len(skipped)


def test_verdict_says_why_it_is_not_shown() -> None:
    """A promise that a missing profile would have shown names that profile."""
    details = {one.name: one.detail for one in report_of("steady", "isolation", complete=["steady"]).verdicts}

    assert details["isolation"] == "no two keys were compared; isolation did not run"
    assert "did not run" not in details["honest wait"]


@pytest.mark.parametrize(("trouble", "interrupted"), [("only 1 of 2 workers are left", False), ("", True)])
def test_no_advice_if_something_else_ended_the_run(trouble: str, interrupted: bool) -> None:
    """More seconds do not help a run that lost a worker, or that was interrupted."""
    report = report_of("steady", "window", "isolation", complete=["steady"], trouble=trouble, interrupted=interrupted)

    assert report.gap == GAP


@pytest.mark.parametrize(("trouble", "interrupted"), [("only 1 of 2 workers are left", False), ("", True)])
def test_run_that_was_cut_has_not_passed(trouble: str, interrupted: bool) -> None:
    """No report says that a run passed which was interrupted or lost a worker: JSON, JUnit and HTML agree."""
    report = report_of("steady", "window", complete=["steady"], trouble=trouble, interrupted=interrupted)
    junit = ET.fromstring(as_junit(report))
    errors = [(case.get("name"), case[0].get("message")) for case in junit if case[0].tag == "error"]

    assert not report.failed
    assert as_json(report)["passed"] is False
    assert report.outcome == "unfinished"
    assert errors == [("the run itself", trouble or "interrupted; the report contains all requests until then")]
    assert (junit.get("errors"), junit.get("failures")) == ("1", "0")
    assert int(junit.get("tests", "")) == len(junit)


def test_soak_lasts_until_the_end() -> None:
    """A soak is never cut short, and a complete run has no gap."""
    report = report_of("steady", "soak", complete=["steady"])

    assert report.missing == {}
    assert report.gap == ""
