"""`Report`: what a run has found, for people and programs. Pure; there is no key in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from awx_ratelimit.core.rate import Rate
from awx_ratelimit.loadtest.audit.audit import ANSWERS, audit
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.tolerances import Mark, Terms, Verdict
from awx_ratelimit.loadtest.run_config import Order

_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `trouble` is why it ended before its time, and empty if it did not."""

    order: Order
    terms: Terms
    began_at: datetime
    observations: Sequence[Observation]
    verdicts: Sequence[Verdict]
    trouble: str = ""
    interrupted: bool = False
    workers: int = 0

    @property
    def failed(self) -> list[Verdict]:
        """The promises that were broken."""
        return [one for one in self.verdicts if one.mark is Mark.FAILED]

    @property
    def outcome(self) -> str:
        """All of it in a word or two."""
        if self.failed:
            return Mark.FAILED
        if self.trouble or self.interrupted:
            return "unfinished"
        return Mark.PASSED if any(one.mark is Mark.PASSED for one in self.verdicts) else Mark.UNSHOWN

    @property
    def seconds(self) -> float:
        """From the first request to the end of the last."""
        if not self.observations:
            return 0.0
        begin_us = min(one.sent_us for one in self.observations)
        return (max(one.ended_us for one in self.observations) - begin_us) / 1_000_000


def made(order: Order, began_at: datetime, observations: Sequence[Observation], **run: Any) -> Report:
    """The report of `observations`. A run that did not come so far as to ask says nothing of a gateway."""
    terms = Terms(order.plan, spread_us=run.pop("spread_us", 0))
    verdicts = audit(observations, terms)
    why = run.get("trouble") or ("interrupted before the first request" if run.get("interrupted") else "")
    if why and not observations:
        verdicts[0] = Verdict(ANSWERS, Mark.UNSHOWN, why)
    return Report(order, terms, began_at, observations, verdicts, **run)


def as_json(report: Report) -> dict[str, Any]:
    """The report for programs."""
    order = report.order
    return {
        "url": order.url,
        "plan": {
            "name": order.plan.name,
            "rates": [_rate(rate) for rate in order.plan.rates],
            "concurrent": order.plan.concurrency and order.plan.concurrency.slots,
        },
        "began_at": report.began_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(report.seconds, 3),
        "requests": len(report.observations),
        "workers": report.workers,
        "spread_us": report.terms.spread_us,
        "passed": not report.failed and not report.trouble,
        "interrupted": report.interrupted,
        "trouble": report.trouble or None,
        "verdicts": [
            {"name": one.name, "verdict": one.mark, "detail": one.detail, "examples": list(one.examples)}
            for one in report.verdicts
        ],
        "profiles": [profile(report.observations, name) for name in profiles(report.observations)],
    }


def _rate(rate: Rate) -> dict[str, Any]:
    names = ("name", "tokens", "period_ms", "burst", "refill")
    return {name: getattr(rate, name) for name in names}


def profiles(observations: Sequence[Observation]) -> list[str]:
    """The names of the profiles, in the order in which they began."""
    return list(dict.fromkeys(one.profile for one in observations))


def profile(observations: Sequence[Observation], name: str) -> dict[str, Any]:
    """What became of the requests of one profile."""
    of_profile = [one for one in observations if one.profile == name]
    latencies_ms = sorted((one.answered_us - one.sent_us) / 1_000 for one in of_profile)
    counts = {outcome.value: sum(1 for one in of_profile if one.outcome is outcome) for outcome in Outcome}
    percentiles = {f"p{percent}_ms": round(percentile(latencies_ms, percent), 3) for percent in _PERCENTILES}
    return {"name": name, **counts, **percentiles}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest of `ordered` that is not below `percent` of them; 0 of none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0
