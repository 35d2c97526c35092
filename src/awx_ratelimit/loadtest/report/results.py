"""`Report`: the results of a run, which every report format renders."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import ANSWERS, audit
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import Result, Verdict
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

PERCENTILES = (50, 95, 99)


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
        tolerances = Tolerances(config.plan, spread_us=record.spread_us)
        verdicts = audit(record.observations, tolerances)
        reason = record.trouble or ("interrupted before the first request" if record.interrupted else "")
        if reason and not record.observations:
            verdicts[0] = Verdict(ANSWERS, Result.NOT_SHOWN, reason)
        return cls(config, began_at, record, tolerances, verdicts)

    @property
    def observations(self) -> Sequence[Observation]:
        """The observations of the run."""
        return self.record.observations

    @property
    def failed(self) -> list[Verdict]:
        """The verdicts on promises that the gateway broke."""
        return [one for one in self.verdicts if one.result is Result.FAILED]

    @property
    def outcome(self) -> str:
        """The result of the whole run: failed, unfinished, passed or not shown."""
        if self.failed:
            return Result.FAILED
        if self.record.trouble or self.record.interrupted:
            return "unfinished"
        return Result.PASSED if any(one.result is Result.PASSED for one in self.verdicts) else Result.NOT_SHOWN

    @property
    def seconds(self) -> float:
        """The time from the first request to the end of the last."""
        if not self.observations:
            return 0.0
        begin_us = min(one.sent_us for one in self.observations)
        return (max(one.ended_us for one in self.observations) - begin_us) / SECOND_US

    @property
    def profiles(self) -> list[str]:
        """The names of the profiles, in the order in which they began."""
        return list(dict.fromkeys(one.profile for one in self.observations))

    def profile_statistics(self, name: str) -> dict[str, Any]:
        """The counts and latency percentiles of one profile."""
        of_profile = [one for one in self.observations if one.profile == name]
        latencies_ms = sorted((one.answered_us - one.sent_us) / 1_000 for one in of_profile)
        counts = {outcome.value: sum(1 for one in of_profile if one.outcome is outcome) for outcome in Outcome}
        percentiles = {f"p{percent}_ms": round(percentile(latencies_ms, percent), 3) for percent in PERCENTILES}
        return {"name": name, **counts, **percentiles}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest of the `ordered` values that is not below `percent` % of them; 0 if there are none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0
