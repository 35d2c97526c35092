"""Reports for programs: JSON, and the JUnit XML that CI systems read."""

from typing import Any
from xml.etree import ElementTree as ET

from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.loadtest.audit.verdict import Result
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.runtime.clock import rfc3339


def as_json(report: Report) -> dict[str, Any]:
    """The report as a dictionary that JSON can represent."""
    plan = report.config.plan
    fields = ("name", "tokens", "period_ms", "burst", "refill")
    return {
        "url": report.config.url,
        "plan": {
            "name": plan.name,
            "rates": [{name: getattr(rate, name) for name in fields} for rate in plan.rates],
            "concurrent": plan.concurrency and plan.concurrency.slots,
        },
        "began_at": rfc3339(report.began_at),
        "seconds": round(report.seconds, 3),
        "requests": len(report.observations),
        "workers": report.record.workers,
        "spread_us": report.tolerances.spread_us,
        "passed": not report.failed and not report.record.trouble,
        "interrupted": report.record.interrupted,
        "trouble": report.record.trouble or None,
        "verdicts": [
            {"name": one.name, "verdict": one.result, "detail": one.detail, "examples": list(one.examples)}
            for one in report.verdicts
        ],
        "profiles": [report.profile_statistics(name) for name in report.profiles],
    }


def as_junit(report: Report) -> str:
    """One JUnit test suite with a case for each promise. Promises that were not shown are skipped cases."""
    not_shown = sum(1 for one in report.verdicts if one.result is Result.NOT_SHOWN)
    suite = ET.Element(
        "testsuite",
        name="awx-ratelimit loadtest",
        tests=str(len(report.verdicts) + bool(report.record.trouble)),
        failures=str(len(report.failed)),
        errors=str(int(bool(report.record.trouble))),
        skipped=str(not_shown),
        time=f"{report.seconds:.3f}",
        timestamp=report.began_at.strftime("%Y-%m-%dT%H:%M:%S"),
    )
    for one in report.verdicts:
        case = ET.SubElement(suite, "testcase", classname=_text(report.config.url), name=one.name)
        if one.result is Result.FAILED:
            ET.SubElement(case, "failure", message=_text(one.detail)).text = _text("\n".join(one.examples))
        elif one.result is Result.NOT_SHOWN:
            ET.SubElement(case, "skipped", message=_text(one.detail))
        else:
            ET.SubElement(case, "system-out").text = _text(one.detail)
    if report.record.trouble:
        case = ET.SubElement(suite, "testcase", classname=_text(report.config.url), name="the run itself")
        ET.SubElement(case, "error", message=_text(report.record.trouble))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _text(text: str) -> str:
    """Escape characters in a gateway's text that XML does not allow or that are invisible."""
    return "\n".join(map(escape_unprintable, text.split("\n")))
