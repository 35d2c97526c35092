"""`Report`: the results of a run, also as JSON and as the JUnit XML that CI systems read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

from awx_ratelimit.core.validation import escape_unprintable
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Outcome
from awx_ratelimit.loadtest.audit.promises import ANSWERS, FREE, SLOTS, audit
from awx_ratelimit.loadtest.audit.refusals import HONEST_WAIT, ISOLATION
from awx_ratelimit.loadtest.audit.verdict import Result, Tolerances, Verdict
from awx_ratelimit.loadtest.run_config import SOAK, RunConfig, plan_json
from awx_ratelimit.loadtest.runner import RunRecord
from awx_ratelimit.runtime.clock import rfc3339

PERCENTILES = (50, 95, 99)
_INTERRUPTED: Final = "interrupted; the report contains all requests until then"


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one run."""

    config: RunConfig
    began_at: datetime
    record: RunRecord
    tolerances: Tolerances
    verdicts: Sequence[Verdict]

    @classmethod
    def of_run(cls, config: RunConfig, began_at: datetime, record: RunRecord) -> "Report":
        """Audit a run. One that ended before its first request proves nothing about the gateway."""
        tolerances = record.tolerances(config)
        verdicts = audit(record.observations, tolerances)
        verdicts = [_with_reason(one, missing(config, record)) for one in verdicts]
        reason = record.trouble or ("interrupted before the first request" if record.interrupted else "")
        if reason and not record.observations:
            verdicts[0] = Verdict(ANSWERS, Result.NOT_SHOWN, reason)
        return cls(config, began_at, record, tolerances, verdicts)

    @property
    def failed(self) -> list[Verdict]:
        """The verdicts on promises that the gateway broke."""
        return [one for one in self.verdicts if one.result is Result.FAILED]

    @property
    def outcome(self) -> str:
        """The result of the whole run: failed, unfinished, passed or not shown."""
        if self.failed:
            return Result.FAILED
        if self.end:
            return "unfinished"
        return Result.PASSED if any(one.result is Result.PASSED for one in self.verdicts) else Result.NOT_SHOWN

    @property
    def end(self) -> str:
        """Why the run ended early: it was interrupted, or its trouble. Empty if it did not."""
        return "; ".join(filter(None, (_INTERRUPTED if self.record.interrupted else "", self.record.trouble)))

    @property
    def missing(self) -> dict[str, str]:
        """What of the selected profiles is missing; see `missing`."""
        return missing(self.config, self.record)

    @property
    def gap(self) -> str:
        """`missing` in words, with what to do about it; empty if nothing is missing."""
        gap = ", ".join(f"{name} {what}" for name, what in self.missing.items())
        if not gap or self.end:
            return gap
        spent = f"the run has used its {self.config.seconds} s or its {self.config.requests} requests"
        return f"{spent}: {gap}. Give more --seconds or --requests, or select --profiles"

    @property
    def seconds(self) -> float:
        """The time from the first request to the end of the last."""
        if not self.record.observations:
            return 0.0
        begin_us = min(one.sent_us for one in self.record.observations)
        return (max(one.ended_us for one in self.record.observations) - begin_us) / SECOND_US

    @property
    def profiles(self) -> list[str]:
        """The names of the profiles, in the order in which they began."""
        return list(dict.fromkeys(one.profile for one in self.record.observations))

    def profile_statistics(self, name: str) -> dict[str, Any]:
        """The counts and latency percentiles of one profile."""
        of_profile = [one for one in self.record.observations if one.profile == name]
        ended = (one for one in of_profile if one.outcome is not Outcome.UNFINISHED)
        latencies_ms = sorted((one.answered_us - one.sent_us) / 1_000 for one in ended)
        counts = {outcome.value: sum(1 for one in of_profile if one.outcome is outcome) for outcome in Outcome}
        percentiles = {f"p{percent}_ms": round(percentile(latencies_ms, percent), 3) for percent in PERCENTILES}
        return {"name": name, **counts, **percentiles}


#: The profiles that can show a promise. The others can be shown by several.
_SHOWN_BY: Final = {
    SLOTS: ("streams", "websockets"), HONEST_WAIT: ("wait",), FREE: ("refusals",), ISOLATION: ("isolation",),
}  # fmt: skip


def missing(config: RunConfig, record: RunRecord) -> dict[str, str]:
    """For each selected profile that is not complete: ``did not run``, or ``was cut short``.

    A soak lasts until the time is over.
    """
    begun = {one.profile for one in record.observations}
    incomplete = [
        name for name in config.profiles if name not in record.complete and (name != SOAK or name not in begun)
    ]
    return {name: "was cut short" if name in begun else "did not run" for name in incomplete}


def _with_reason(verdict: Verdict, incomplete: Mapping[str, str]) -> Verdict:
    """`verdict`, which says which profiles are missing if it is not shown."""
    reasons = [f"{name} {incomplete[name]}" for name in _SHOWN_BY.get(verdict.name, ()) if name in incomplete]
    if verdict.result is not Result.NOT_SHOWN or not reasons:
        return verdict
    return replace(verdict, detail="; ".join([verdict.detail, *reasons]))


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest of the `ordered` values that is not below `percent` % of them; 0 if there are none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


def as_json(report: Report) -> dict[str, Any]:
    """The report as a dictionary that JSON can represent."""
    return {
        "url": report.config.url,
        "plan": plan_json(report.config.plan),
        "same_account": report.config.same_account,
        "began_at": rfc3339(report.began_at),
        "seconds": round(report.seconds, 3),
        "requests": len(report.record.observations),
        "workers": report.record.workers,
        "spread_us": report.tolerances.spread_us,
        "passed": not report.failed and not report.end,
        "interrupted": report.record.interrupted,
        "trouble": report.record.trouble or None,
        "missing_profiles": report.missing,
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
        tests=str(len(report.verdicts) + len(report.missing) + bool(report.end)),
        failures=str(len(report.failed)),
        errors=str(int(bool(report.end))),
        skipped=str(not_shown + len(report.missing)),
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
    for name, what in report.missing.items():
        case = ET.SubElement(suite, "testcase", classname=_text(report.config.url), name=f"profile {name}")
        ET.SubElement(case, "skipped", message=what)
    if report.end:
        case = ET.SubElement(suite, "testcase", classname=_text(report.config.url), name="the run itself")
        ET.SubElement(case, "error", message=_text(report.end))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _text(text: str) -> str:
    """Escape characters in a gateway's text that XML does not allow or that are invisible."""
    return "\n".join(map(escape_unprintable, text.split("\n")))
