"""The verdicts as JUnit's XML, which every CI reads: a case for each promise."""

from xml.etree import ElementTree as ET

from awx_ratelimit.core.printable import visible
from awx_ratelimit.loadtest.audit.tolerances import Mark
from awx_ratelimit.loadtest.report.report import Report


def as_junit(report: Report) -> str:
    """One test suite. What was not shown is skipped."""
    unshown = sum(1 for one in report.verdicts if one.mark is Mark.UNSHOWN)
    suite = ET.Element(
        "testsuite",
        name="awx-ratelimit loadtest",
        tests=str(len(report.verdicts) + bool(report.trouble)),
        failures=str(len(report.failed)),
        errors=str(int(bool(report.trouble))),
        skipped=str(unshown),
        time=f"{report.seconds:.3f}",
        timestamp=report.began_at.strftime("%Y-%m-%dT%H:%M:%S"),
    )
    for one in report.verdicts:
        case = ET.SubElement(suite, "testcase", classname=_text(report.order.url), name=one.name)
        if one.mark is Mark.FAILED:
            ET.SubElement(case, "failure", message=_text(one.detail)).text = _text("\n".join(one.examples))
        elif one.mark is Mark.UNSHOWN:
            ET.SubElement(case, "skipped", message=_text(one.detail))
        else:
            ET.SubElement(case, "system-out").text = _text(one.detail)
    if report.trouble:
        case = ET.SubElement(suite, "testcase", classname=_text(report.order.url), name="the run itself")
        ET.SubElement(case, "error", message=_text(report.trouble))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _text(text: str) -> str:
    """What a gateway said may have characters that XML does not have, or that nobody sees."""
    return "\n".join(map(visible, text.split("\n")))
